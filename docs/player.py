"""Film the player: screenshots of a real attempt in a real JupyterLab, as docs/player.gif.

python docs/player.py        # from the repository's root; needs Chromium and the extra "notebook"
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser  # noqa: E402
from tests.jupyter import Lab  # noqa: E402
from tests.viewer.player.test_in_jupyterlab import COLLECT, PLAYER, SHOW, live, said  # noqa: E402

WIDTH = 1000  # pixels
LARGEST = 1_000_000  # bytes


def shot(browser: Browser) -> Image.Image:
    """Take a picture of the player."""
    box = browser.eval(
        f"(() => {{ const r = {PLAYER}.getBoundingClientRect(); return [r.x, r.y, r.width, r.height] }})()"
    )
    clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
    clip["height"] = min(clip["height"], 820)
    content = base64.b64decode(browser.call("Page.captureScreenshot", clip=clip)["data"])
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)


def film(browser: Browser) -> list[tuple[Image.Image, int]]:
    """Play, and return pictures with the milliseconds that each stays."""
    frames = []

    def keep(milliseconds: int) -> None:
        time.sleep(0.4)
        frames.append((shot(browser), milliseconds))

    browser.eval(f"{PLAYER}.scrollIntoView(); {PLAYER}.focus()")
    live(browser, 0)
    keep(1500)
    for step in range(1, 5):
        browser.press("l")
        live(browser, step)
        keep(1200)
    browser.press(":")
    browser.type("git diff --stat")
    keep(900)
    browser.press("Enter")
    said(browser, "changed")
    keep(2200)
    browser.press("Escape")
    browser.press("t")
    browser.wait_for(f"{PLAYER}.dataset.terminal == 'open'", 30)
    browser.type("ls && git log --oneline | head -3\n")
    time.sleep(1)
    keep(2200)
    browser.press("]", modifiers=2)
    browser.wait_for(f"document.activeElement === {PLAYER}")
    for key in ("0", "l"):
        browser.press(key)
    live(browser, 1)
    browser.press("b")
    browser.type("mind the condition")
    keep(1500)
    browser.press("Enter")
    said(browser, "1 made: 1 resolved", 120)
    keep(3000)
    return frames


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        lab.notebook("player.ipynb", COLLECT, SHOW)
        with lab.open("player.ipynb") as browser:
            browser.wait_for(f"{PLAYER} !== null && {PLAYER}.dataset.ready == '1'", 120)
            frames = film(browser)
    height = max(picture.height for picture, _ in frames)
    pictures = []
    for picture, _ in frames:
        whole = Image.new("RGB", (WIDTH, height), "white")
        whole.paste(picture)
        pictures.append(whole.quantize(96, dither=Image.Dither.NONE))
    file = ROOT / "docs" / "player.gif"
    times = [milliseconds for _, milliseconds in frames]
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=True)
    print(f"{file}: {len(frames)} pictures, {file.stat().st_size / 1000:.0f} kB")
    assert file.stat().st_size < LARGEST


if __name__ == "__main__":
    main()

"""The player in JupyterLab, in a real browser: keys, live sandboxes, terminal, branches, reload; nothing foreign, no error."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, Browser, busy
from tests.jupyter import Lab, complaints, foreign

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'swebench-lab[notebook]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium"),
]
PICTURES = os.environ.get("SWEBENCH_LAB_PICTURES", "")

COLLECT = """
import swebench_lab as lab
tasks = lab.load_tasks("demo").sample(3, seed=1)[:1]
sandboxes = lab.SandboxFactory("namespace")
sandboxes.prepare(tasks)
collector = lab.RolloutCollector(sandboxes, run_dir="runs/first")
rollouts = collector.collect(lab.Agent(lab.NoisyTeacher(tasks, p=1.0, seed=0)), tasks, progress=False)
"""
SHOW = """
(rollout,) = lab.attach("runs/first")
stepper = lab.Stepper(rollout, sandboxes, policies={"teacher": lab.Teacher(tasks)}, step=0)
stepper
"""
LONG = """
from pathlib import Path
import swebench_lab as lab
from tests.samples import a_rollout, a_step
text = 2 * "\\n".join(path.read_text("utf-8") for path in sorted(Path(lab.__file__).parent.rglob("*.py")))
part = len(text) // 2 // 500
steps = [a_step(n, command=f"cat {n}", observation=text[part * n :][:100_000] + f"\\nneedle{n:03d}") for n in range(500)]
rollout = a_rollout(steps=tuple(steps))
"""
SHOW_LONG = """
import time
print("megabytes", sum(len(step.observation) for step in steps) // 10**6, "began", time.time())
stepper = lab.Stepper(rollout, step=0)
stepper
"""
PLAYER = "document.querySelector('.lab-player')"


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def picture(browser: Browser, name: str) -> None:
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(PICTURES) / f"{name}.png")


def live(browser: Browser, step: int) -> None:
    browser.wait_for(f"{PLAYER}.dataset.step == '{step}' && {PLAYER}.dataset.live == '{step}'")


def said(browser: Browser, words: str, seconds: float = 60) -> None:
    browser.wait_for(f"{PLAYER}.textContent.includes({json.dumps(words)})", seconds)


def timed_steps(browser: Browser) -> list[float]:
    """Milliseconds from a key to the step's detail and live sandbox on the page."""
    took = []
    for key, step in (("l", 1), ("l", 2), ("l", 3), ("h", 2), ("h", 1), ("l", 2), ("l", 3), ("l", 4)):
        time.sleep(0.4)  # a person reads; meanwhile the boxes beside this step are opened
        began = time.perf_counter()
        browser.press(key)
        live(browser, step)
        took.append(1000 * (time.perf_counter() - began))
    return took


def timed_commands(browser: Browser) -> list[float]:
    """Milliseconds of a bare `true` through the same page."""
    took = []
    for number in range(1, 7):
        browser.press(":")
        browser.type("true")
        began = time.perf_counter()
        browser.press("Enter")
        browser.wait_for(f"{PLAYER}.dataset.typed == '{number}'")
        took.append(1000 * (time.perf_counter() - began))
        browser.press("Escape")
    return took


def test_a_real_attempt_from_keys_to_branches_and_back(jupyter: Lab) -> None:
    jupyter.notebook("player.ipynb", COLLECT, SHOW)
    with jupyter.open("player.ipynb") as browser:
        browser.wait_for(f"{PLAYER} !== null && {PLAYER}.dataset.ready == '1'", 120)
        cells = browser.eval("document.querySelectorAll('.jp-Notebook .jp-Cell').length")
        browser.eval(f"{PLAYER}.scrollIntoView(); {PLAYER}.focus()")
        live(browser, 0)
        steps, commands = timed_steps(browser), timed_commands(browser)
        step, command = statistics.median(steps), statistics.median(commands)
        print(f"step {step:.0f} ms ({min(steps):.0f}-{max(steps):.0f}), bare command {command:.0f} ms")
        assert step <= 5 * command
        picture(browser, "player")

        for key in ("d", "d", "a", "x", "0", "0", "l", "l", "l"):  # in command mode: delete, insert, cut, restart
            browser.press(key)
        live(browser, 3)
        assert browser.eval("document.querySelectorAll('.jp-Notebook .jp-Cell').length") == cells
        assert browser.eval("document.querySelectorAll('.jp-Dialog').length") == 0

        browser.press(":")
        browser.type("echo $((6*7)) > answer; cat answer\n")
        said(browser, "$ echo $((6*7)) > answer; cat answer\n42")
        browser.press("Escape")
        browser.press("t")
        browser.wait_for(f"{PLAYER}.dataset.terminal == 'open'", 30)
        browser.type("cat answer; tty; stty size | wc -w\n")
        rows = "[...document.querySelectorAll('.lab-player .xterm-rows > div')].map(r => r.textContent.trim())"
        browser.wait_for(f"{rows}.includes('42') && {rows}.includes('/dev/pts/0') && {rows}.includes('2')", 30)
        picture(browser, "terminal")
        began = time.perf_counter()
        browser.type("seq 1 200000; echo END-OF-$((1))-SEQ\n")
        browser.wait_for(f"{rows}.includes('END-OF-1-SEQ')", 60)
        print(f"1.3 MB through the terminal: {time.perf_counter() - began:.1f} s")
        browser.press("]", modifiers=2)
        browser.wait_for(f"document.activeElement === {PLAYER}")

        browser.press("0")
        browser.press("l")
        live(browser, 1)
        browser.press("b")
        browser.type("mind the condition\n")
        said(browser, "1 branches: 1 resolved", 120)
        said(browser, "mind the condition")
        picture(browser, "branches")
        if PICTURES:
            browser.eval("void window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
            browser.wait_for("document.body.dataset.jpThemeLight == 'false'")
            time.sleep(1)
            picture(browser, "dark")
        browser.eval("[...document.querySelectorAll('.lab-player .tree button')][1].click()")
        browser.wait_for(f"{PLAYER}.querySelector('.badge').textContent.includes('✓ resolved')")
        browser.press("g")
        said(browser, "resolved. ", 60)

        browser.eval("void window.jupyterapp.commands.execute('docmanager:save')")
        time.sleep(2)
        size = (jupyter.folder / "player.ipynb").stat().st_size
        print(f"saved notebook: {size / 1000:.0f} kB")
        assert size < 250_000, "the terminal's script is not stored in it"
        browser.call("Page.reload")
        time.sleep(1)
        browser.wait_for(f"{PLAYER} !== null && {PLAYER}.dataset.ready == '1'", 60)
        browser.wait_for(f"{PLAYER}.querySelector('.badge').textContent.includes('✓ resolved')", 30)
        browser.eval(f"{PLAYER}.scrollIntoView(); {PLAYER}.focus()")
        browser.press("l")
        live(browser, 2)
        assert complaints(browser) == [] and foreign(browser, jupyter.address) == []


def test_keys_work_while_a_cell_is_running(jupyter: Lab) -> None:
    jupyter.notebook("busy.ipynb", COLLECT, SHOW, "import time; time.sleep(20); print('cell', 'done')")
    with jupyter.open("busy.ipynb") as browser:
        browser.wait_for(f"{PLAYER} !== null && {PLAYER}.dataset.ready == '1'", 120)
        live(browser, 0)
        time.sleep(1.5)  # the notebook moves the focus to the cell that it goes on with
        browser.eval(f"{PLAYER}.focus()")
        began = time.perf_counter()
        browser.press("l")
        live(browser, 1)
        took = time.perf_counter() - began
        assert not browser.eval("document.body.textContent.includes('cell done')")
        print(f"a key during a cell: {1000 * took:.0f} ms")
        assert took < 5


def test_a_page_without_the_extension_gets_the_simple_view_and_the_reason(tmp_path: Path) -> None:
    with Lab(tmp_path, without="anywidget") as jupyter:
        jupyter.notebook("poor.ipynb", COLLECT, SHOW)
        with jupyter.open("poor.ipynb") as browser:
            browser.wait_for("document.body.textContent.includes('This is the simple view')", 120)
            browser.wait_for("document.querySelectorAll('.jp-OutputArea select option').length > 5")
            picture(browser, "simple")
            button = "[...document.querySelectorAll('.jp-OutputArea button')].find(b => b.textContent === '▶')"
            browser.eval(f"{button}.click()")
            browser.wait_for("document.body.textContent.includes('Step 1')")
            assert foreign(browser, jupyter.address) == []


def test_a_long_attempt_opens_at_once_and_scrolls(jupyter: Lab) -> None:
    jupyter.notebook("long.ipynb", LONG, SHOW_LONG)
    with jupyter.open("long.ipynb") as browser:
        browser.wait_for(f"{PLAYER} !== null && {PLAYER}.dataset.ready == '1'", 120)
        opened = time.time()
        size, began = browser.eval(
            "document.body.textContent.match(/megabytes (\\d+) began ([\\d.]+)/).slice(1, 3).join(' ')"
        ).split()
        browser.eval(f"{PLAYER}.scrollIntoView(); {PLAYER}.focus()")
        took = []
        for key, step in (("$", 499), ("h", 498), ("0", 0), ("$", 499)):
            pressed = time.perf_counter()
            browser.press(key)
            browser.wait_for(f"{PLAYER}.dataset.step == '{step}' && {PLAYER}.textContent.includes('cat {step}')")
            took.append(1000 * (time.perf_counter() - pressed))
        print(
            f"{size} MB in 500 steps: open after {1000 * (opened - float(began)):.0f} ms, a key {max(took):.0f} ms at most"
        )
        assert int(size) >= 50 and opened - float(began) < busy()
        for part in ("main", "list"):
            gaps = browser.frames(f"{PLAYER}.querySelector('.{part}')")
            print(f"scrolling {part}: a frame each {gaps[45]:.0f} ms, 95 % within {gaps[85]:.0f} ms")
            assert gaps[45] < 35 * busy()
        assert complaints(browser) == []

"""The static page in a real browser: keys, links and filters work, nothing is loaded, nothing hostile runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.viewer.page import page
from tests.browser import CHROMIUM, Browser, busy
from tests.samples import a_rollout, a_step
from tests.viewer.test_page import hostile_pages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium"),
]


def at(browser: Browser) -> tuple[str, str, str]:
    """Return where the page stands: its address, its focus, and what its rail marks."""
    marked = "document.querySelector('.rail [aria-current]')?.hash ?? ''"
    return tuple(browser.eval(e) for e in ("location.hash", "document.activeElement.id", marked))  # type: ignore[return-value]


def test_keys_step_filters_hide_and_links_lead_to_steps(tmp_path: Path) -> None:
    file = tmp_path / "attempt.html"
    file.write_text(page(a_rollout("unresolved")), "utf-8")
    with Browser(f"{file.as_uri()}#step-4") as browser:
        assert at(browser) == ("#step-4", "step-4", "#step-4")
        for key, step in (("l", 5), ("ArrowRight", 6), ("l", 6), ("h", 5), ("ArrowLeft", 4), ("0", 0), ("$", 6)):
            browser.press(key)
            assert at(browser) == (f"#step-{step}", f"step-{step}", f"#step-{step}"), key
        assert browser.eval("live.textContent").startswith("Step 6, submit")
        browser.press("?")
        assert browser.eval("help.open")
        browser.press("h")
        browser.press("?")
        assert not browser.eval("help.open") and at(browser)[0] == "#step-6"
        browser.eval("document.getElementById('f-run').click()")
        browser.press("0")
        browser.press("l")
        browser.press("l")
        assert at(browser)[0] == "#step-3", "step 2 runs, so it is hidden"
        browser.eval("location.hash = '#step-2'")
        browser.wait_for("document.activeElement.id == 'step-2'")
        assert browser.complaints == [] and browser.requests == [file.as_uri()]


def test_hostile_text_runs_nothing_and_loads_nothing(tmp_path: Path) -> None:
    file = tmp_path / "attempt.html"
    file.write_text(hostile_pages()[0], "utf-8")
    with Browser(file.as_uri()) as browser:
        assert browser.eval("document.images.length + document.scripts.length") == 1
        assert browser.complaints == [] and browser.requests == [file.as_uri()]
        browser.eval("document.body.insertAdjacentHTML('beforeend', '<img src=http://localhost:1/x onerror=alert(1)>')")
        browser.wait_for("document.images.length == 1 && document.images[0].complete")
        blocked = [
            event["params"].get("blockedReason")
            for event in browser.events
            if event["method"].endswith("loadingFailed")
        ]
        assert blocked == ["csp"], "even what got in would be kept from loading"
        assert not [event for event in browser.events if event["method"] == "Page.javascriptDialogOpening"]


def test_a_notebook_made_into_html_shows_the_static_view_offline(tmp_path: Path) -> None:
    nbconvert, nbformat = pytest.importorskip("nbconvert"), pytest.importorskip("nbformat")
    with lab.Stepper(a_rollout("unresolved")) as stepper:
        output = nbformat.v4.new_output("display_data", data=stepper._bundle(stepper.full()))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("stepper", outputs=[output])])
    file = tmp_path / "notebook.html"
    file.write_text(nbconvert.HTMLExporter().from_notebook_node(notebook)[0], "utf-8")
    with Browser("about:blank", ready="true") as browser:
        browser.call(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        browser.call("Page.navigate", url=file.as_uri())
        folds = "[...document.querySelectorAll('details')].filter((fold) => fold.offsetParent)"
        browser.wait_for(f"document.readyState == 'complete' && {folds}.length >= 8")
        browser.eval("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
        shown = browser.eval("document.body.innerText")
        for words in ("demo__textgrid.0001", "unresolved", "Found 2 calls.", "exit 1"):
            assert words in shown


def test_a_long_attempt_opens_at_once_and_all_of_it_is_found(tmp_path: Path) -> None:
    sources = sorted(Path(lab.__file__).parent.rglob("*.py"))  # what agents look at: source text, a different part each
    text = "\n".join(path.read_text("utf-8") for path in sources)
    text = f"{text}\n{text}"
    half, offset = 50_000, len(text) // 2 // 500
    steps = tuple(
        a_step(
            n,
            command=f"cat {n}",
            observation=f"{text[offset * n :][:half]}\nneedle{n:03d}\n{text[offset * n + half :][:half]}",
        )
        for n in range(500)
    )
    said = sum(len(step.observation) for step in steps)
    assert said >= 50_000_000
    began = time.perf_counter()
    html = page(a_rollout(steps=steps))
    made = time.perf_counter() - began
    file = tmp_path / "long.html"
    file.write_text(html, "utf-8")
    with Browser(file.as_uri()) as browser:
        loaded = browser.eval("performance.getEntriesByType('navigation')[0].loadEventEnd")
        painted = browser.eval("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print(
            f"{said / 1e6:.0f} MB: made in {made:.2f} s, {len(html) / 1e6:.0f} MB, "
            f"can be read after {painted:.0f} ms, loaded in {loaded:.0f} ms"
        )
        usable = browser.eval("performance.getEntriesByName('usable')[0].startTime")
        print(f"keys work after {usable:.0f} ms")
        assert painted < 1000 * busy() and usable < 1000 * busy() and loaded < 2000 * busy()
        browser.press("$")
        browser.wait_for("document.activeElement.id == 'step-499'")
        browser.press("e")
        browser.wait_for("document.getElementById('step-499').textContent.includes('needle499')")
        browser.press("/")
        for key in "needle042":
            browser.press(key)
        browser.wait_for("document.getElementById('found').textContent == '1 of 500 steps'")
        shown = (
            "[...document.querySelectorAll('article.step')].filter(s => s.offsetParent !== null).map(s => s.id).join()"
        )
        assert browser.eval(shown) == "step-42"
        browser.eval("search.value = ''; search.dispatchEvent(new Event('input'))")
        browser.wait_for("document.getElementById('found').textContent == ''")
        browser.eval("scrollTo({ top: 0, behavior: 'instant' })")
        gaps = browser.frames("document.scrollingElement")
        print(f"scrolling: a frame each {gaps[45]:.0f} ms, 95 % within {gaps[85]:.0f} ms")
        assert gaps[45] < 35 * busy()
        assert browser.complaints == [] and browser.requests == [file.as_uri()]

"""The viewer in a real browser, by all three doors: keys, search, notes, live attempts; nothing foreign, nothing hostile."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.viewer.app.assets import notebook_script
from tests.browser import CHROMIUM, Browser
from tests.samples import a_rollout, a_task
from tests.viewer.app.runs import hostile_attempt, write_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium"),
]
PICTURES = os.environ.get("SWEBENCH_LAB_PICTURES", "")
CONTRASTS = """(() => {
  const lum = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const under = (e) => { for (let n = e; n; n = n.parentElement) { const c = getComputedStyle(n).backgroundColor; if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.offsetParent || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [lum(getComputedStyle(e).color), lum(under(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 20)}`);
  }
  return poor;
})()"""


def picture(browser: Browser, name: str) -> None:
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(PICTURES) / f"view-{name}.png")


def there(browser: Browser, selector: str, seconds: float = 30) -> None:
    browser.wait_for(f"document.querySelector({json.dumps(selector)}) !== null", seconds)


def place(browser: Browser) -> str:
    return str(browser.eval("location.hash"))


@contextmanager
def shown(
    runs: Path, index: Path, notes: bool = False, sandboxes: lab.SandboxFactory | None = None
) -> Iterator[tuple[Browser, lab.View]]:
    with lab.View(runs, notes=notes, sandboxes=sandboxes, index=index) as view:
        while view.catalogue.ask("SELECT 1 FROM attempts WHERE words = 0 LIMIT 1"):
            time.sleep(0.05)
        server = view.serve()
        with Browser(server.url) as browser:
            yield browser, view
            assert browser.complaints == []
            assert all(url.startswith((f"http://127.0.0.1:{server.port}/", "data:,")) for url in browser.requests)


def test_the_keyboard_alone_searches_opens_steps_and_goes_on_to_the_next_attempt(tmp_path: Path) -> None:
    with shown(write_runs(tmp_path / "runs"), tmp_path / "index") as (browser, _):
        there(browser, "tr[data-open]")
        browser.press("j")
        browser.press("Enter")
        browser.wait_for("location.hash.startsWith('#attempts?f.run')")
        there(browser, ".search")
        browser.press("/")
        browser.type("widest")
        browser.wait_for("document.querySelector('.total')?.textContent.startsWith('11 attempts')")
        picture(browser, "search")
        browser.press("Escape")
        for key in ("j", "j", "k", "j", "Enter"):
            browser.press(key)
        browser.wait_for("location.hash.includes('step=0')")
        first = place(browser)
        assert "q=widest" in first
        browser.press("ArrowRight")
        browser.press("l")
        browser.wait_for("location.hash.includes('step=2')")
        assert "step-2" in browser.eval("document.querySelector('.attempt code').textContent")
        picture(browser, "attempt")
        browser.press("ArrowDown")
        browser.wait_for(f"location.hash.includes('step=0') && location.hash !== {json.dumps(first)}")
        browser.wait_for("document.querySelector('.attempt-bar [role=status]').textContent === '3 of 11'")
        browser.press("Escape")
        browser.wait_for("location.hash.startsWith('#attempts')")
        there(browser, "tr[aria-selected=true]")


def test_a_link_to_a_step_opens_that_step_and_columns_sort_and_filter(tmp_path: Path) -> None:
    with shown(write_runs(tmp_path / "runs"), tmp_path / "index") as (browser, view):
        run, name = view.frame.select("run", "id").row(3)
        browser.eval(f"location.hash = '#attempt?run={run}&id={name}&step=4'")
        browser.wait_for("document.querySelector('.at-step')?.textContent === '4'")
        time.sleep(1)
        assert "step=4" in place(browser)
        browser.eval("location.hash = '#attempts?sort=-reward&filters=1'")
        there(browser, "[data-name='f.verdict']")
        browser.eval(
            "(() => { const b = document.querySelector(\"[data-name='f.verdict']\"); b.value = '=unresolved'; b.dispatchEvent(new Event('change')); })()"
        )
        browser.wait_for("document.querySelector('.total').textContent.startsWith('10 attempts')")
        browser.eval("document.querySelector('[data-name=sort-task]').click()")
        browser.wait_for("location.hash.includes('sort=task')")
        ids = "[...document.querySelectorAll('td.id')].map((td) => td.textContent)"
        browser.wait_for(f"JSON.stringify({ids}) === JSON.stringify({ids}.sort())")


def test_notes_survive_a_reload_and_comparing_leads_to_two_attempts(tmp_path: Path) -> None:
    with shown(write_runs(tmp_path / "runs"), tmp_path / "index", notes=True) as (browser, view):
        run, name = view.frame.select("run", "id").row(0)
        browser.eval(f"location.hash = '#attempt?run={run}&id={name}'")
        there(browser, "[data-name=note]")
        browser.eval(
            "document.querySelector('details.note').open = true; document.querySelector('[data-name=note]').focus()"
        )
        browser.type("why?")
        browser.eval(
            "document.querySelector('[data-name=tags]').value = 'odd, flaky'; document.querySelector('[data-name=keep]').click()"
        )
        browser.wait_for("document.querySelector('details.note').textContent.includes('kept beside the run')")
        browser.call("Page.reload")
        browser.wait_for("document.querySelector('[data-name=note]')?.value === 'why?'")
        assert browser.eval("document.querySelector('[data-name=tags]').value") == "odd, flaky"
        browser.eval("location.hash = '#attempts?f.tags=flaky'")
        browser.wait_for("document.querySelector('.total')?.textContent.startsWith('1 attempts')")
        browser.eval("location.hash = '#compare'")
        browser.wait_for("document.querySelector('td.change')?.textContent === 'gained'", 60)
        picture(browser, "compare")
        browser.eval("document.querySelector('td.id a').click()")
        browser.wait_for("location.hash.startsWith('#pair') && document.querySelector('iframe') !== null")
        picture(browser, "pair")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_at_least_four_and_a_half_and_narrow_windows_fit(tmp_path: Path, theme: str) -> None:
    with shown(write_runs(tmp_path / "runs"), tmp_path / "index", notes=True) as (browser, view):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        run, name = view.frame.select("run", "id").row(0)
        for number, screen in enumerate(
            ("runs", "attempts?filters=1&sort=-reward", "groups", "compare", f"attempt?run={run}&id={name}")
        ):
            browser.eval(f"location.hash = '#{screen}'")
            there(browser, "iframe" if screen.startswith("attempt?") else "table.rows td", 60)
            for width in (1400, 480):
                browser.call(
                    "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
                )
                assert browser.eval(CONTRASTS) == [], screen
                assert browser.eval("document.documentElement.scrollWidth") <= width, screen
                picture(browser, f"{theme}-{number}-{width}")


def test_hostile_text_stays_text_and_its_frame_reaches_nothing(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "runs").append(hostile_attempt(), "r")
    with shown(tmp_path / "runs", tmp_path / "index") as (browser, view):
        for screen in ("runs", "attempts", "groups", "compare"):
            browser.eval(f"location.hash = '#{screen}'")
            there(browser, "h1")
            time.sleep(0.3)
            assert browser.eval("document.images.length") == 0
        run, name = view.frame.select("run", "id").row(0)
        browser.eval(f"location.hash = '#attempt?run={run}&id={name}'")
        there(browser, "iframe")
        time.sleep(1)
        assert (
            browser.eval(
                "(() => { try { return String(document.querySelector('iframe').contentDocument); } catch (e) { return 'null'; } })()"
            )
            == "null"
        )
        assert not [event for event in browser.events if event["method"] == "Page.javascriptDialogOpening"]


def test_a_running_attempt_is_followed_step_by_step_to_its_verdict(tmp_path: Path) -> None:
    whole = a_rollout("resolved", a_task("demo__textgrid.0001"))
    run = RunDirectory(tmp_path / "runs" / "now")
    journal = run.journal()
    journal.begin(replace(whole.trajectory, steps=()))
    with shown(tmp_path / "runs", tmp_path / "index") as (browser, _):
        browser.eval("location.hash = '#attempts'")
        there(browser, ".going a")
        browser.eval("document.querySelector('.going a').click()")
        for count, step in enumerate(whole.trajectory.steps, 1):
            journal.step(step)
            browser.wait_for(
                f"document.querySelector('.attempt-bar [role=status]')?.textContent.startsWith('{count} steps')"
            )
        picture(browser, "running")
        run.append(whole, "r")
        journal.end()
        browser.wait_for("location.hash.startsWith('#attempt?')")
        browser.wait_for("document.querySelector('.attempt-bar .badge').textContent.includes('resolved')")
    run.release()


PLAYER = "(document.querySelector('.player')?.shadowRoot.querySelector('.lab-player'))"
BELOW = "document.querySelector('[data-lm-suppress-shortcuts]')?.shadowRoot"
BELOW_PLAYER = f"({BELOW}?.querySelector('.player')?.shadowRoot.querySelector('.lab-player'))"


def one_attempt(runs: Path, sandboxes: lab.SandboxFactory) -> lab.Rollout:
    tasks = lab.load_tasks("demo").sample(3, seed=1)[:1]
    collector = lab.RolloutCollector(sandboxes, run_dir=runs / "first")
    (rollout,) = collector.collect(lab.Agent(lab.NoisyTeacher(tasks, p=1.0, seed=0)), tasks, progress=False)
    return rollout


def walk_through(browser: Browser, player: str, status: str, name: str) -> None:
    """From step 1: step on, run a command, open a terminal, branch, and grade."""
    browser.wait_for(f"{player}?.dataset.live === '1'", 60)
    browser.press("l")
    browser.wait_for(f"{player}.dataset.live === '2'")
    browser.press(":")
    browser.type("echo from $PWD\n")
    browser.wait_for(f"{player}.querySelector('.typed').textContent.includes('from /testbed')")
    browser.press("Escape")
    browser.press("t")
    browser.wait_for(f"{player}.dataset.terminal === 'open'", 30)
    browser.type("printf '\\033[38;2;250;10;10m%s\\n' o''ver\n")
    browser.wait_for(f"{player}.querySelector('.xterm-rows').textContent.includes('over')")
    styles = f"[...{player}.querySelectorAll('.xterm-rows span')].map((one) => getComputedStyle(one).color)"
    browser.wait_for(f"{styles}.includes('rgb(250, 10, 10)')")
    picture(browser, name)
    browser.press("]", 2)
    browser.wait_for(f"{player}.getRootNode().activeElement === {player}")
    browser.press("h")  # the edit of step 2 is wrong
    browser.wait_for(f"{player}.dataset.live === '1'")
    browser.press("b")
    browser.wait_for(f"{player}.querySelector('form.branch').hidden === false")
    offered = browser.eval(f"[...{player}.querySelectorAll('form.branch option')].map((o) => o.value)")
    assert offered == ["the recorded replies", "submit as it is", "the gold patch"]
    browser.eval(f"{player}.querySelector('form.branch select').value = 'the gold patch'")
    browser.press("Enter")
    browser.wait_for(f"{player}.textContent.includes('1 branches: 1 resolved')", 120)
    picture(browser, f"{name}-branched")
    browser.eval(f"{player}.focus()")
    browser.press("g")
    browser.wait_for(f"{player}.querySelector('.said-live').textContent.startsWith({status!r})", 60)


def test_a_step_is_entered_alive_with_a_terminal_a_branch_and_a_verdict(tmp_path: Path) -> None:
    with lab.SandboxFactory("namespace") as sandboxes:
        status = one_attempt(tmp_path / "runs", sandboxes).verdict.status
        with shown(tmp_path / "runs", tmp_path / "index", sandboxes=sandboxes) as (browser, view):
            run, name = view.frame.select("run", "id").row(0)
            browser.eval(f"location.hash = '#attempt?run={run}&id={name}&step=1'")
            browser.wait_for("document.querySelector('.at-step')?.textContent === '1'")
            browser.press("r")
            walk_through(browser, PLAYER, status, "entered")
            browser.call("Page.reload")
            browser.wait_for(f"{PLAYER}?.dataset.live === '1'", 60)
            assert "from /testbed" in browser.eval(f"{PLAYER}.querySelector('.typed').textContent")
            browser.call("Emulation.setDeviceMetricsOverride", width=480, height=900, deviceScaleFactor=1, mobile=False)
            assert browser.eval("document.documentElement.scrollWidth") <= 480
            picture(browser, "entered-480")
            browser.press("Escape")
            browser.wait_for("location.hash.startsWith('#attempt?') && location.hash.includes('step=1')")
            view.catalogue.refresh()
            assert view.frame.filter(run="first/branches")["verdict"].to_list() == ["resolved"]


def test_a_bundle_works_on_any_web_server_search_included(tmp_path: Path) -> None:
    with lab.View(write_runs(tmp_path / "runs"), index=tmp_path / "index") as view:
        view.bundle(tmp_path / "site")
    command = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
        "--directory",
        str(tmp_path / "site"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split("(")[1].split(")")[0]
        try:
            with Browser(address) as browser:
                there(browser, "tr[data-open]")
                browser.eval("location.hash = '#attempts?q=widest&sort=-reward'")
                browser.wait_for("document.querySelector('.total')?.textContent.startsWith('23 attempts')")
                browser.eval("location.hash = '#attempts?q=wid*&f.run=%3Da'")
                browser.wait_for("document.querySelector('.total')?.textContent.startsWith('12 attempts')")
                browser.eval("location.hash = '#attempts?q=absentword'")
                browser.wait_for("document.querySelector('.total')?.textContent.startsWith('0 attempts')")
                browser.eval("location.hash = '#attempts?f.reward=>0.5'")
                browser.wait_for("document.querySelector('.total')?.textContent.startsWith('13 attempts')")
                browser.press("j")
                browser.press("Enter")
                browser.wait_for("location.hash.includes('step=0')")
                browser.press("ArrowDown")
                browser.wait_for("document.querySelector('.attempt-bar [role=status]').textContent === '2 of 13'")
                browser.eval("location.hash = '#compare'")
                browser.wait_for("document.querySelector('td.change')?.textContent === 'gained'")
                picture(browser, "bundle")
                missing = [c for c in browser.complaints if "words/" not in json.dumps(c)]
                assert missing == [], "a word that is nowhere has no file: the browser notes the 404"
                assert all(url.startswith((address, "data:,")) for url in browser.requests)
        finally:
            server.terminate()


def test_where_no_kernel_answers_the_saved_table_stands_until_one_does(tmp_path: Path) -> None:
    hostile = write_runs(tmp_path / "runs") / "<img src=x onerror=alert(1)>"
    RunDirectory(hostile).append(hostile_attempt(), "r")
    with lab.View(tmp_path / "runs", index=tmp_path / "index") as view:
        view._repr_mimebundle_()
        state = json.dumps({name: getattr(view._widget, name) for name in ("sheet", "place", "saved")}).replace(
            "<", "\\u003c"
        )
    script = tmp_path / "widget.js"
    script.write_text(notebook_script())
    host = f"""<body><div id=cell></div><script type=module>
const state = {state};
window.sent = []; window.answer = null;
const model = {{ get: (name) => state[name], set: () => {{}}, save_changes: () => {{}}, off: () => {{}},
  on: (what, call) => {{ window.answer = call; }}, send: (message) => window.sent.push(message) }};
import("data:text/javascript;base64,{base64.b64encode(script.read_bytes()).decode()}").then(({{ default: widget }}) =>
  {{ widget.render({{ model, el: document.getElementById("cell") }}); document.documentElement.classList.add("js"); }});
</script>"""
    (tmp_path / "cell.html").write_text(host)
    root = "document.querySelector('#cell > div').shadowRoot"
    with Browser((tmp_path / "cell.html").as_uri()) as browser:
        browser.wait_for(f"{root}.querySelector('.lab-saved table') !== null")
        assert "12" in browser.eval(f"{root}.querySelector('.lab-saved').innerText")
        assert "<img" in browser.eval(f"{root}.querySelector('.lab-saved').innerText"), "a run's name stays text"
        assert browser.eval(f"{root}.querySelector('.lab-view').offsetHeight") == 0 and browser.eval("sent.length") > 1
        browser.eval("answer({ number: 'hello-1', status: 200, kind: 'application/json', text: '{}' })")
        assert browser.eval(f"{root}.querySelector('.lab-saved')") is None
        assert browser.eval(f"{root}.querySelector('.lab-view').offsetHeight") > 0
        assert not [event for event in browser.events if event["method"] == "Page.javascriptDialogOpening"]


def test_the_same_application_stands_below_a_cell_in_jupyterlab(tmp_path: Path) -> None:
    pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'swebench-lab[notebook]'")
    from tests.jupyter import Lab, complaints, foreign

    write_runs(tmp_path / "runs")
    with Lab(tmp_path) as jupyter:
        jupyter.notebook(
            "view.ipynb",
            "import swebench_lab as lab\nlab.View('runs', notes=True, index='index')",
            "import time; time.sleep(6)",
        )
        with jupyter.open("view.ipynb") as browser:
            browser.wait_for(f"{BELOW}?.querySelector('tr[data-open]') != null", 120)
            assert browser.eval(f"{BELOW}.activeElement") is None, "nobody came here yet"
            cells = browser.eval("document.querySelectorAll('.jp-Notebook .jp-Cell').length")
            browser.eval(f"{BELOW}.querySelector('tr[data-open] a').click()")
            browser.wait_for(f"{BELOW}.querySelector('.total')?.textContent.startsWith('12 attempts')")
            browser.eval(f"{BELOW}.querySelector('.view-main').focus()")
            for key in ("j", "j", "Enter"):
                browser.press(key)
            browser.wait_for(f"{BELOW}.querySelector('iframe.page') !== null")
            browser.press("l")
            browser.wait_for(f"{BELOW}.querySelector('.at-step').textContent === '1'")
            browser.eval(f"{BELOW}.host.scrollIntoView()")
            picture(browser, "jupyterlab")
            assert browser.eval("document.querySelectorAll('.jp-Notebook .jp-Cell').length") == cells
            assert complaints(browser) == [], json.dumps(complaints(browser))
            assert foreign(browser, jupyter.address) == []


def test_a_step_is_entered_below_a_cell_in_jupyterlab_also_while_another_cell_runs(tmp_path: Path) -> None:
    pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'swebench-lab[notebook]'")
    from tests.jupyter import Lab, complaints, foreign

    with lab.SandboxFactory("namespace") as sandboxes:
        status = one_attempt(tmp_path / "runs", sandboxes).verdict.status
    with Lab(tmp_path) as jupyter:
        jupyter.notebook(
            "view.ipynb",
            "import swebench_lab as lab\nlab.View('runs', sandboxes=lab.SandboxFactory('namespace'), index='index')",
            "import time\nfrom pathlib import Path\nwhile not Path('over').exists(): time.sleep(0.1)",
        )
        with jupyter.open("view.ipynb") as browser:
            browser.wait_for(f"{BELOW}?.querySelector('tr[data-open]') != null", 120)
            cells = browser.eval("document.querySelectorAll('.jp-Notebook .jp-Cell').length")
            for to in ("tr[data-open] a", 'td.id a[href^="#attempt?"]'):
                browser.wait_for(f"{BELOW}.querySelector('{to}') !== null")
                browser.eval(f"{BELOW}.querySelector('{to}').click()")
            browser.wait_for(f"{BELOW}.querySelector('iframe.page') !== null")
            browser.eval(f"{BELOW}.host.scrollIntoView()")
            browser.wait_for(f"{BELOW}.activeElement?.tagName === 'IFRAME'")
            browser.press("0")
            browser.press("l")
            browser.wait_for(f"{BELOW}.querySelector('.at-step').textContent === '1'")
            browser.press("r")
            walk_through(browser, BELOW_PLAYER, status, "jupyterlab-entered")
            browser.press("Escape")
            browser.wait_for(f"{BELOW}.querySelector('.at-step')?.textContent === '1'")
            (tmp_path / "over").touch()
            assert browser.eval("document.querySelectorAll('.jp-Notebook .jp-Cell').length") == cells
            assert complaints(browser) == [], json.dumps(complaints(browser))
            assert foreign(browser, jupyter.address) == []

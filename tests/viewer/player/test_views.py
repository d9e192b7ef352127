"""The three views: they show the same facts of a model, keep hostile text inert, and open long attempts at once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import Tasks
from swebench_lab.viewer.player import drawing, markup
from swebench_lab.viewer.player.model import PlayerModel
from swebench_lab.viewer.player.stepper import Stepper
from tests.samples import a_rollout, a_step, a_task
from tests.viewer.test_page import HOSTILE

pytest.importorskip("anywidget", reason="needs the widgets: pip install 'swebench-lab[notebook]'")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rollout, lab.SandboxFactory, Tasks]]:
    tasks = lab.load_tasks("demo").sample(3, seed=1)[:1]
    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, run_dir=tmp_path_factory.mktemp("run"))
        agent = lab.Agent(lab.NoisyTeacher(tasks, p=1.0, seed=0))
        (rollout,) = collector.collect(agent, tasks, progress=False)
        yield rollout, sandboxes, tasks


class Text(HTMLParser):
    """The text of a page, as a reader finds it, without spaces at its ends or twice in a row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def texts_in(value: Any) -> str:
    """All texts of a JSON value, one after the other."""
    if isinstance(value, dict):
        return "".join(map(texts_in, value.values()))
    if isinstance(value, (list, tuple)):
        return "".join(map(texts_in, value))
    return value if isinstance(value, str) else ""


def facts_of(model: PlayerModel) -> list[str]:
    """What must be readable in every view: of the attempt, and of each step."""
    rollout = model.rollout
    facts = [rollout.task.id, rollout.verdict.status, rollout.verdict.reason, *model.header().values()]
    facts += [*rollout.task.fail_to_pass, *rollout.task.pass_to_pass, *rollout.verdict.notes]
    facts += rollout.task.gold_patch.split("\n") + rollout.trajectory.patch.split("\n")
    for number, step in enumerate(model.steps):
        facts += [model.kind(number), step.thought, *step.observation.split("\n"), f"exit {step.exit_code}"]
        facts += list(step.arguments.values()) if step.tool == "bash" else [step.arguments.get("path", "")]
        facts += model.diff(number).split("\n")
    return [fact for fact in facts if fact.strip()]


def test_the_three_views_show_the_same_facts(collected: tuple[Rollout, lab.SandboxFactory, Tasks]) -> None:
    rollout, sandboxes, _ = collected
    with Stepper(rollout, sandboxes) as stepper:
        full, simple = stepper.full(), stepper.simple() and stepper._simple
        shown = {"static": "".join(Text(stepper.to_html()).parts), "full": "", "simple": ""}
        for step in range(len(stepper.model.steps)):
            for name in ("changes", "tests", "patch"):
                full.controls.tab = name
                stepper.goto(step)
                simple.panel.value = name
                full.controls.draw("cursor")
                shown["full"] += texts_in([full.overview, full.detail, full.panel])
                html = [simple.head.value, simple.detail.value, simple.beside.value]
                shown["simple"] += "".join(Text("".join(html)).parts)
        for view, text in shown.items():
            have = squeezed(text)
            missing = [fact for fact in facts_of(stepper.model) if squeezed(fact) not in have]
            assert not missing, (view, missing[:3])
        assert json.dumps([full.overview, full.detail, full.panel])


def test_both_widgets_follow_the_model_and_steer_it(collected: tuple[Rollout, lab.SandboxFactory, Tasks]) -> None:
    rollout, sandboxes, tasks = collected
    with Stepper(rollout, sandboxes, policies={"teacher": lab.Teacher(tasks)}) as stepper:
        full, simple = stepper.full(), stepper.simple() and stepper._simple
        full.controls.hear({"do": "goto", "step": 3})
        wait(lambda: simple.steps.value == 3 and full.detail["step"] == 3)
        simple.steps.value = 1
        wait(lambda: full.detail["step"] == 1 and full.live["words"] == "live at step 1")
        simple.command.value = "echo from the simple view"
        simple.buttons["run"].click()
        wait(lambda: bool(full.typed) and full.typed[-1][2] == "from the simple view\n")
        full.controls.hear({"do": "run", "command": "echo from the full view"})
        wait(lambda: "from the full view" in simple.typed.value and len(full.typed) == 2)
        full.controls.hear({"do": "filter", "kinds": ["edit"], "words": ""})
        wait(lambda: full.visible == stepper.model.visible != list(range(len(stepper.model.steps))))
        simple.buttons["branch"].click()
        wait(lambda: any("resolved" in row[5] for row in drawing.branches(stepper.model)["tree_of_branches"][1:]), 60)
        full.controls.hear({"do": "save", "path": "a/new.txt", "text": "said"})
        wait(lambda: stepper.model.run("cat a/new.txt").output == "said")
        for nonsense in (
            {"do": "goto"},
            {"do": "stop"},
            {"do": "__init__"},
            {},
            "text",
            {"do": "select", "node": "no"},
        ):
            full.controls.hear(nonsense)
        full.controls.hear({"do": "goto", "step": 0})
        wait(lambda: full.detail["step"] == 0)


def wait(true: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def hostile_rollout() -> Rollout:
    task = replace(a_task(f"demo__{HOSTILE}", f"demo/{HOSTILE}", HOSTILE), gold_patch=HOSTILE)
    arguments = {"command": HOSTILE, "path": HOSTILE, "old_str": HOSTILE, "new_str": HOSTILE, HOSTILE: HOSTILE}
    steps = (
        a_step(0, command=HOSTILE, observation=HOSTILE, thought=HOSTILE, text=HOSTILE, cwd=HOSTILE, limit=HOSTILE),
        a_step(1, tool="str_replace_editor", arguments=arguments, observation=HOSTILE * 200),
        a_step(2, tool=HOSTILE, arguments=arguments),
        a_step(3, tool="", text=HOSTILE),
    )
    rollout = a_rollout("unresolved", task, policy=HOSTILE, steps=steps, patch=HOSTILE)
    said = replace(rollout.trajectory, error=HOSTILE, stop=HOSTILE, tier=HOSTILE, snapshot=HOSTILE)
    verdict = replace(rollout.verdict, reason=HOSTILE, log=HOSTILE, notes=(HOSTILE,), tests={HOSTILE: HOSTILE})
    return replace(rollout, trajectory=said, verdict=verdict)


def test_hostile_text_stays_inert_text_in_every_view() -> None:
    with Stepper(hostile_rollout()) as stepper:
        full, simple = stepper.full(), stepper.simple() and stepper._simple
        pages = [stepper.to_html(), stepper._repr_html_()]
        for step in range(-1, 4):
            for name in drawing.PANELS:
                stepper.goto(step)
                simple.panel.value = name
                pages += [simple.head.value, simple.detail.value, simple.beside.value, simple.state.value]
                drawn = [full.overview, drawing.detail(stepper.model), drawing.panel(stepper.model, name)]
                inert = texts_in(drawn)
                assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", inert)
                assert "evil.example" not in inert
        for html in pages:
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", html)
            read = Text(html)
            names = {name for name, _ in read.elements}
            assert names.isdisjoint({"img", "iframe", "object", "link", "base", "svg", "embed"})
            assert not [a for _, given in read.elements for a in given if a.startswith("on")]
            assert all(not str(given.get("href", "#")).startswith("javascript:") for _, given in read.elements)
        assert all("<script" not in html for html in pages[1:])


def test_the_page_s_script_puts_texts_in_as_texts() -> None:
    code = (Path(lab.__file__).parent / "bundled" / "assets" / "player.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", code)
    assert not re.search(r"https?://", code)


def test_a_stored_notebook_stays_small_and_holds_every_step(
    collected: tuple[Rollout, lab.SandboxFactory, Tasks],
) -> None:
    rollout, _, _ = collected
    long = replace(
        rollout,
        trajectory=replace(rollout.trajectory, steps=tuple(a_step(n, observation="x" * 100_000) for n in range(500))),
    )
    with PlayerModel(rollout) as model, PlayerModel(replace(long, layers="")) as wide:
        assert markup.fragment(model).count("<details>") >= len(model.steps)
        assert len(markup.fragment(wide)) < 500_000


def test_an_attempt_of_fifty_megabytes_opens_within_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    lines = "\n".join(f"{n:06d} " + "x" * 92 for n in range(1000))
    rollout = a_rollout(steps=tuple(a_step(n, command=f"cat {n}", observation=f"{n}\n{lines}") for n in range(500)))
    began = time.perf_counter()
    with Stepper(rollout) as stepper:
        full = stepper.full()
        opened = time.perf_counter() - began
        began = time.perf_counter()
        stepper.goto(499)
        wait(lambda: full.detail["step"] == 499)
        moved = time.perf_counter() - began
        began = time.perf_counter()
        assert len(stepper.model.filter(words="000999 XX")) == 500
        found = time.perf_counter() - began
    print(f"opened in {opened:.2f} s, stepped in {1000 * moved:.0f} ms, searched in {found:.2f} s")
    assert opened < 1.0
    assert len(json.dumps([full.overview, full.detail])) < 500_000, "what travels is the step, not the attempt"


def test_a_link_leads_back_to_the_step(collected: tuple[Rollout, lab.SandboxFactory, Tasks]) -> None:
    rollout, sandboxes, _ = collected
    with Stepper(rollout, sandboxes, step=3) as stepper, Stepper(stepper.link) as again:
        assert again.model.cursor == 3 and again.model.rollout == rollout
    with pytest.raises(lab.RecordError, match="holds no attempt 9"):
        Stepper(stepper.link.replace("/0/", "/9/"))
    with pytest.raises(lab.RecordError, match="expected run_dir#"):
        Stepper("nonsense")
    with pytest.raises(lab.RecordError, match="give its task"):
        Stepper(rollout.trajectory)
    assert Stepper(rollout.trajectory, task=rollout.task).model.rollout.verdict.status == "not graded"

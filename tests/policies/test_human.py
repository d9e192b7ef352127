"""HumanPolicy with a person who types from a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swebench_lab.agents.agent import Agent
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.policies.human import HumanPolicy
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.boxes import make_snapshot
from tests.conftest import make_task


def test_a_person_types_commands_calls_and_submit(tmp_path: Path) -> None:
    view = render_xml(Call("str_replace_editor", {"command": "view", "path": "/testbed/a.py"}))
    typed = iter(["echo one; \\", "echo two", view, "echo y = 2 >> a.py", "submit"])
    shown: list[str] = []
    policy = HumanPolicy("ada", ask=lambda _: next(typed), show=shown.append)
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as box:
        trajectory = Agent(policy, keep_layers=False).run(make_task(), box)
    assert (trajectory.stop, trajectory.policy, len(trajectory)) == ("submitted", "ada", 4)
    assert "str_replace_editor" in shown[0] and "add() subtracts" in shown[0], "a person needs the system prompt too"
    assert shown[1] == "OBSERVATION:\none\ntwo\n[exit code 0]"
    assert "x = 1" in shown[2]
    assert "+y = 2" in trajectory.patch


def test_a_person_who_leaves_ends_the_attempt_as_an_error(tmp_path: Path) -> None:
    def closed(prompt: str) -> str:
        raise EOFError

    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as box:
        trajectory = Agent(HumanPolicy(ask=closed, show=len), keep_layers=False).run(make_task(), box)  # type: ignore[arg-type]
    assert trajectory.stop == "error"
    assert "left at step 0" in trajectory.error


@pytest.mark.parametrize("flavour", ["xml", "tool-calling", "coder", "mini"])
def test_a_person_speaks_the_call_format_of_whatever_agent_it_is(flavour: str, tmp_path: Path) -> None:
    typed = iter(["", "   ", "echo 'a  b'", "echo y = 2 >> a.py", "submit"])
    policy = HumanPolicy(ask=lambda _: next(typed), show=len)  # type: ignore[arg-type]
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as box:
        trajectory = Agent(policy, flavour, keep_layers=False).run(make_task(), box)
    assert (trajectory.stop, [step.malformed for step in trajectory.steps]) == ("submitted", [False] * 3)
    assert "a  b" in trajectory.steps[0].observation and "+y = 2" in trajectory.patch


def test_what_the_call_format_cannot_hold_is_typed_again(tmp_path: Path) -> None:
    typed, shown = iter(["echo '\\", "<function=x>'", "submit"]), []
    policy = HumanPolicy(ask=lambda _: next(typed), show=shown.append)
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as box:
        trajectory = Agent(policy, keep_layers=False).run(make_task(), box)
    assert (trajectory.stop, len(trajectory)) == ("submitted", 1)
    assert shown[1].startswith("Nothing was run: ")


CELL = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import swebench_lab as lab
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.boxes import make_snapshot
from tests.conftest import make_task

snapshot = make_snapshot(Path({folder!r}), {{"a.py": "x = 1\\n"}})

def attempt(number):
    with open_namespace(snapshot) as box:
        return lab.Agent(lab.HumanPolicy(), "mini", keep_layers=False).run(make_task(number), box)

with ThreadPoolExecutor(2) as pool:
    for made in [attempt(0), *pool.map(attempt, (1, 2))]:
        print("RESULT", made.stop, len(made), "+y = 2" in made.patch, made.error)
"""


@pytest.mark.parametrize("somebody", [True, False])
def test_a_person_types_under_the_cell_of_a_notebook(somebody: bool, tmp_path: Path) -> None:
    from jupyter_client.manager import start_new_kernel

    prompts, printed, typed = [], [], {"[0] $ ": "cat a.py", "[1] $ ": "echo y = 2 >> a.py", "[2] $ ": "submit"}

    def hear(message: dict[str, Any]) -> None:
        printed.append(message["content"].get("text", ""))

    def answer(message: dict[str, Any]) -> None:
        prompts.append(message["content"]["prompt"])
        client.input(typed[prompts[-1]])

    manager, client = start_new_kernel(cwd=str(Path(__file__).parents[2]))
    try:
        made = client.execute_interactive(
            CELL.format(folder=str(tmp_path)), allow_stdin=somebody, output_hook=hear, stdin_hook=answer, timeout=120
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert made["content"]["status"] == "ok", made
    results = [line.strip() for line in "".join(printed).splitlines() if line.startswith("RESULT")]
    if somebody:
        assert results == ["RESULT submitted 3 True"] * 3
        assert prompts[:3] == list(typed) and sorted(prompts) == sorted([*typed] * 3) and "x = 1" in "".join(printed)
    else:
        assert len(results) == 3 and all("asking human at step 0: " in line and "can type" in line for line in results)

"""The shell of an attempt: a new one says so and keeps the same with and without layers; traces and screens are hidden."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swebench_lab.agents.agent import Agent
from swebench_lab.agents.tools.bash import full_screen
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.policies.scripted import ScriptedPolicy
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.snapshot import Snapshot
from tests.boxes import make_snapshot
from tests.conftest import make_task

ENDINGS = {
    "exit": "exit 3",
    "errexit": "set -e; false",
    "errexit and pipefail": "set -eo pipefail; false | true",
    "nounset": "set -u; echo $NOPE",
    "a signal": "kill -9 $$",
    "exec": "exec false",
    "a loop of its own": "while :; do :; done",
    "exit in what is sourced": "source /dev/stdin <<< 'exit 1'",
    "a variable that must be set": "echo ${NOPE:?must be set}",
    "posix mode": "set -o posix; . /nonexistent",
}
BEFORE = "export KEPT=1; LOCAL=2; f() { echo fn; }; cd src; source <(echo 'export SOURCED=yes')"
AFTER = "echo $KEPT ${LOCAL-lost} $SOURCED $(type -t f || echo lost) $PWD $-"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return make_snapshot(tmp_path_factory.mktemp("repo"), {"a.py": "x = 1\n", "src/b.py": "y = 1\n"})


@pytest.fixture
def box(snapshot: Snapshot) -> Iterator[Sandbox]:
    with open_namespace(snapshot) as opened:
        yield opened


def run(box: Sandbox, commands: list[str], layers: bool = False) -> Trajectory:
    replies = [render_xml(Call("bash", {"command": command})) for command in commands]
    agent = Agent(ScriptedPolicy([*replies, render_xml(Call("submit"))]), "xml", command_timeout=1.5)
    return agent.run(make_task(), box, layer_sink=(lambda layer: None) if layers else None)


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_shell_that_ends_says_what_is_kept_and_layers_change_nothing(snapshot: Snapshot, ending: str) -> None:
    shown = []
    for layers in (False, True):
        with open_namespace(snapshot) as box:
            steps = run(box, [BEFORE, ending, AFTER], layers).steps
        assert "new one in /testbed/src" in steps[1].observation
        assert "exported variables of before this command (KEPT, SOURCED)" in steps[1].observation
        assert steps[2].observation == "OBSERVATION:\n1 lost yes lost /testbed/src hBs\n[exit code 0]"
        shown.append([step.observation for step in steps])
    assert shown[0] == shown[1]


def test_a_shell_that_goes_on_says_nothing_of_it(box: Sandbox) -> None:
    steps = run(box, [BEFORE, "bash -c 'exit 1'", "(exit 2)", "sleep 9", AFTER]).steps
    assert not any("new one" in step.observation for step in steps)
    assert steps[4].observation == "OBSERVATION:\n1 2 yes function /testbed/src hBs\n[exit code 0]"


def test_a_trace_shows_the_commands_that_were_written_and_no_others(box: Sandbox) -> None:
    written = [
        "set -x",
        "echo a; echo b >&2",
        "f() { echo c; }; export -f f; f",
        "false",
        "echo $?",
        "PS4='# '\necho d",
    ]
    steps = run(box, [*written, "set +x; echo e"], layers=True).steps
    assert [step.observation.split("\n", 1)[1] for step in steps[:-1]] == [
        "[exit code 0]",
        "++ echo a\na\n++ echo b\nb\n[exit code 0]",
        "++ export -f f\n++ f\n++ echo c\nc\n[exit code 0]",
        "++ false\n[exit code 1]",
        "++ echo 0\n0\n[exit code 0]",
        "++ PS4='# '\n## echo d\nd\n[exit code 0]",
        "## set +x\ne\n[exit code 0]",
    ]


def test_redirections_of_the_shell_itself_last(box: Sandbox) -> None:
    steps = run(box, ["exec 2>/tmp/err", "ls /nonexistent", "cat /tmp/err"]).steps
    assert "nonexistent" not in steps[1].observation
    assert "nonexistent" in steps[2].observation


@pytest.mark.parametrize(
    "command",
    [
        "vi a.py",
        "cd src && vim b.py",
        "less a.py",
        "git log | more",
        "top",
        "htop -d 1",
        "sudo nano a.py",
        "watch ls",
        "tmux",
    ],
)
def test_full_screen_programs_are_refused_at_once(box: Sandbox, command: str) -> None:
    step = run(box, [f"touch ran; {command}"]).steps[0]
    assert (step.exit_code, step.timed_out) == (126, False)
    assert "nothing was run" in step.observation
    assert "ran" not in box.run("ls").output


@pytest.mark.parametrize(
    "command",
    [
        "echo vi",
        "which vim",
        "grep -rn less .",
        "top -b -n1 | head",
        "vim -es -c q a.py",
        "python -c 'import top'",
        "ls # vi",
    ],
)
def test_what_only_names_a_full_screen_program_or_needs_no_terminal_is_not(command: str) -> None:
    assert full_screen(command) == ""

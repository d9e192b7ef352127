"""Several calls in one reply: each runs in order and is answered under its own id; nothing runs that was not written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.agents.flavour import Flavour, resolve
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import segments
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.snapshot import Snapshot
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.policies import providers as p
from tests.tokens import PairTokenizer, Sampler, plain

TASK = make_task()
FLAVOUR = "parallel-calling"
FIX = "sed -i 's/a - b/a + b/' calc.py"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return make_snapshot(tmp_path_factory.mktemp("repo"), {"calc.py": "def add(a, b):\n    return a - b\n"})


@pytest.fixture
def box(snapshot: Snapshot) -> Iterator[Sandbox]:
    with open_namespace(snapshot) as opened:
        yield opened


def calls(*made: tuple[str, dict[str, Any]], thought: str = "So.") -> str:
    written = (json.dumps({"name": name, "arguments": given}) for name, given in made)
    return "\n".join([thought, *(f"<tool_call>\n{one}\n</tool_call>" for one in written)])


def bash(*commands: str) -> str:
    return calls(*(("bash", {"command": command}) for command in commands))


SUBMIT = calls(("submit", {}))


def attempt(box: Sandbox, *replies: str, policy: Any = None, **more: Any) -> Trajectory:
    agent = lab.Agent(policy or lab.ScriptedPolicy(replies), FLAVOUR, keep_layers=False, max_format_errors=9)
    return agent.run(TASK, box, **more)


def test_calls_run_in_order_in_one_shell_and_each_has_its_own_observation(box: Sandbox) -> None:
    made = attempt(box, bash("cd /tmp; echo one", "pwd; false"), bash("cd /testbed", FIX), SUBMIT)
    assert (made.stop, made.error) == ("submitted", "") and "+    return a + b" in made.patch
    first = made.steps[0]
    assert [(call.command, call.exit_code) for call in first.calls] == [("cd /tmp; echo one", 0), ("pwd; false", 1)]
    assert ["one" in call.observation for call in first.calls] == [True, False] and "/tmp" in first.calls[1].observation
    assert [message["role"] for message in first.messages] == ["assistant", "tool", "tool"]
    assert first.thought == "So." and not first.malformed and all(call.seconds > 0 for call in first.calls)
    assert Trajectory.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize(
    "broken",
    [
        calls(("bash", {"command": "touch ran"}), ("browse", {})),
        calls(("bash", {"command": "touch ran"}), ("bash", {"cmd": "ls"})),
        bash("touch ran") + '\n<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}',
        bash("touch ran") + "\nand now\n" + bash("ls").removeprefix("So.\n"),
        bash("touch ran", "ls") + "\nThat is all.",
    ],
)
def test_where_one_call_cannot_be_made_none_is(box: Sandbox, broken: str) -> None:
    made = attempt(box, broken, bash("ls", "true"), SUBMIT)
    assert made.steps[0].malformed and made.steps[0].messages[-1]["role"] == "user"
    assert "calc.py" in made.steps[1].observation and "ran" not in made.steps[1].observation.split()


def test_a_call_that_its_tool_refuses_is_answered_so_and_the_others_run(box: Sandbox) -> None:
    made = attempt(box, bash("touch a", "echo \0", "ls"), SUBMIT)
    refused = made.steps[0].calls[1]
    assert refused.exit_code is None and "NUL" in refused.observation
    assert made.steps[0].calls[2].observation.split()[:2] == ["a", "calc.py"]


def test_what_follows_a_submission_is_not_run_and_one_call_is_as_with_the_flavour_for_one(box: Sandbox) -> None:
    made = attempt(
        box, bash("ls"), calls(("bash", {"command": FIX}), ("submit", {}), ("bash", {"command": "touch late"}))
    )
    assert made.stop == "submitted" and "late" not in made.patch and "a + b" in made.patch
    assert [call.tool for call in made.steps[1].calls] == ["bash", "submit"]
    assert len(made.steps[0].messages) == 2
    assert resolve("tool-calling").read(bash("ls")) == resolve(FLAVOUR).read(bash("ls"))
    with pytest.raises(lab.FormatError, match="more than one"):
        resolve("tool-calling").read(bash("ls", "pwd"))
    with pytest.raises(ValueError, match="several calls"):
        Flavour("mine", "xml", (), "s", "i", "o", "f", several=True)


def test_ids_go_on_from_several_results_also_when_the_attempt_is_entered_again(box: Sandbox) -> None:
    policy = Sampler([bash("echo one", "echo two"), bash("ls"), SUBMIT], Renderer.from_frame(PairTokenizer()))
    whole = attempt(box, policy=policy)
    entered = attempt(box, policy=policy, resume=whole[:1])
    assert (whole.error, entered.error) == ("", "") and len(segments(whole)) == len(segments(entered)) == 1
    first, again = whole.steps[1].reply, entered.steps[1].reply
    assert not again.restart and plain(first.context_ids) == plain(again.context_ids)
    assert [len(step.messages) for step in whole.steps] == [3, 2, 2]


PROVIDERS = {
    "chat": (
        lambda url: lab.ChatPolicy(f"{url}/v1", "m", tool_calls=True, pause=0.01),
        p.chat_rules,
        lambda *uses: p.chat({"content": None, "tool_calls": [p.call(n, json.dumps(g), i) for n, g, i in uses]}),
        lambda body: body["parallel_tool_calls"],
        lambda body: [(m["tool_call_id"], m["content"]) for m in body["messages"] if m["role"] == "tool"],
    ),
    "anthropic": (
        lambda url: lab.AnthropicPolicy("m", base_url=url, pause=0.01),
        p.messages_rules,
        lambda *uses: p.messages_answer(*(p.use(*use) for use in uses), stop="tool_use"),
        lambda body: not body["tool_choice"]["disable_parallel_tool_use"],
        lambda body: [
            (block["tool_use_id"], block["content"])
            for turn in body["messages"] for block in turn["content"] if block["type"] == "tool_result"
        ],
    ),
    "responses": (
        lambda url: lab.ResponsesPolicy("m", base_url=f"{url}/v1", pause=0.01),
        p.responses_rules,
        lambda *uses: p.response(*(p.function_call(n, json.dumps(g), i) for n, g, i in uses)),
        lambda body: body["parallel_tool_calls"],
        lambda body: [(i["call_id"], i["output"]) for i in body["input"] if i["type"] == "function_call_output"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
def test_native_calls_are_answered_each_under_its_own_id(name: str, box: Sandbox) -> None:
    make, rules, answer, allowed, results = PROVIDERS[name]
    three = [("bash", {"command": f"echo number {n}"}, f"id_{n}") for n in (1, 2, 3)]
    wrong = [("bash", {"command": "touch ran"}, "id_4"), ("browse", {}, "id_5")]
    with p.serving([answer(*three), answer(*wrong), answer(("submit", {}, "id_6"))], rules) as server:
        policy = make(server.url)
        made = attempt(box, policy=policy)
        entered = attempt(box, policy=policy, resume=made[:2])
    assert (made.stop, made.error, entered.error) == ("submitted", "", "")
    assert allowed(server.requests[0]) and server.requests[2] == server.requests[3]
    said = results(server.requests[2])
    assert [called for called, _ in said] == [f"id_{n}" for n in (1, 2, 3, 4, 5)]
    assert [f"number {n}" in text for (_, text), n in zip(said, (1, 2, 3), strict=False)] == [True] * 3
    assert "browse" in said[3][1] and made.steps[1].malformed and not Path("ran").exists()


def test_of_an_older_record_with_one_observation_the_last_call_has_it(box: Sandbox) -> None:
    reply = lab.Reply(bash("one", "two"))
    older = Step(0, reply, (lab.ToolCall("bash", observation="both"),), role="tool")
    opening = lab.Agent(lab.NullPolicy(), FLAVOUR).attempt(TASK, box).opening
    begun = Trajectory(TASK.id, opening=opening, steps=(older,))
    with p.serving([p.chat({"content": None, "tool_calls": [p.call("submit", "{}")]})], p.chat_rules) as server:
        made = attempt(box, policy=lab.ChatPolicy(f"{server.url}/v1", "m", tool_calls=True), resume=begun)
    assert (made.stop, made.error) == ("submitted", "")

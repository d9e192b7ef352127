"""The agent's loop in real sandboxes: what it records, how it stops, and how an attempt is entered again."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.agents import flavour as flavours
from swebench_lab.agents.agent import Agent
from swebench_lab.agents.flavour import Flavour, clip
from swebench_lab.agents.history import Compaction
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import BaseTool, Observation, Tool, ToolLimits, offered
from swebench_lab.errors import AgentError, ContextFull, PolicyError
from swebench_lab.formats.calls import Call, JsonValue, render_fenced, render_xml
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import force, segments
from swebench_lab.policies.policy import Brief, Conversation
from swebench_lab.policies.scripted import NullPolicy, ReplayPolicy, ScriptedPolicy
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step
from swebench_lab.records.task import TaskView
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Layer, Sandbox
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.snapshot import Snapshot
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.tokens import PairTokenizer, Sampler, plain

TASK = make_task()
SUBMIT = render_xml(Call("submit"))


def bash(command: str) -> str:
    return render_xml(Call("bash", {"command": command}, "I do this."))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    files = {"calc.py": "def add(a, b):\n    return a - b\n", ".gitignore": "__pycache__/\n"}
    return make_snapshot(tmp_path_factory.mktemp("repo"), files)


@pytest.fixture
def box(snapshot: Snapshot) -> Iterator[Sandbox]:
    with open_namespace(snapshot) as opened:
        yield opened


def scripted(*replies: str | Reply, **settings: object) -> Agent:
    return Agent(ScriptedPolicy(replies), keep_layers=False, **settings)  # type: ignore[arg-type]


FIX = bash("sed -i 's/a - b/a + b/' calc.py")


def test_an_attempt_is_recorded_from_the_task_to_the_patch(box: Sandbox) -> None:
    seen: list[Step] = []
    agent = scripted(bash("cd /tmp && echo hello; false"), bash("cd -"), FIX, SUBMIT)
    trajectory = agent.run(TASK, box, attempt=2, seed=9, on_step=seen.append)
    assert (trajectory.stop, trajectory.error, trajectory.attempt, trajectory.seed) == ("submitted", "", 2, 9)
    assert "+    return a + b" in trajectory.patch
    first = trajectory.steps[0]
    assert (first.tool, first.thought, first.exit_code, first.cwd) == ("bash", "I do this.", 1, "/tmp")
    assert first.observation == "OBSERVATION:\nhello\n[exit code 1]"
    assert first.command == "cd /tmp && echo hello; false"
    assert [step.index for step in seen] == [0, 1, 2, 3]
    assert tuple(seen) == trajectory.steps
    assert TASK.issue in trajectory.opening[1]["content"]
    assert (trajectory.agent, trajectory.policy, trajectory.flavour) == (agent.fingerprint, "scripted", "xml")
    assert (trajectory.snapshot, trajectory.tier) == (box.snapshot.key, box.tier)
    assert Trajectory.from_dict(trajectory.to_dict()) == trajectory


def test_the_policy_is_shown_the_view_and_the_very_messages_of_the_record(box: Sandbox) -> None:
    shown: list[list[Message]] = []
    views: list[TaskView] = []

    def script(view: TaskView, messages: Sequence[Message], step: int) -> str:
        views.append(view)
        shown.append(list(messages))
        return [bash("echo one"), "no call", SUBMIT][step]

    trajectory = Agent(ScriptedPolicy(script), keep_layers=False).run(TASK, box)
    assert all(trajectory.messages[: len(messages)] == messages for messages in shown)
    assert len(shown[-1]) == 6
    assert not hasattr(views[0], "gold_patch")
    told = "".join(message["content"] for message in trajectory.messages)
    assert TASK.gold_patch not in told
    assert "test_add" not in told


@pytest.mark.parametrize(
    ("settings", "replies", "stop", "steps"),
    [
        ({"max_steps": 3}, [FIX] + [bash("true")] * 9, "max_steps", 3),
        ({"max_tokens": 50}, [Reply(FIX, completion_tokens=30)] * 9, "max_tokens", 2),
        ({"wall_time": 0.5}, [FIX] + [bash("sleep 0.2")] * 9, "timeout", None),
        ({"max_format_errors": 2}, [FIX, "hm", bash("true"), "hm", "hm", FIX], "format", 5),
    ],
)
def test_a_limit_ends_the_attempt_and_still_hands_in_what_was_changed(
    box: Sandbox, settings: dict[str, float], replies: list[str | Reply], stop: str, steps: int | None
) -> None:
    trajectory = scripted(*replies, **settings).run(TASK, box)
    assert (trajectory.stop, trajectory.error) == (stop, "")
    assert steps is None or len(trajectory) == steps
    assert "+    return a + b" in trajectory.patch


def test_nothing_is_handed_in_at_a_limit_when_that_is_switched_off(box: Sandbox) -> None:
    trajectory = scripted(FIX, max_steps=1, submit_on_limit=False).run(TASK, box)
    assert (trajectory.stop, trajectory.patch) == ("max_steps", "")


def test_a_deadline_ends_an_attempt_and_the_command_that_runs_into_it(box: Sandbox) -> None:
    before = time.monotonic()
    trajectory = scripted(bash("sleep 30"), SUBMIT).run(TASK, box, deadline=before + 0.4)
    assert time.monotonic() - before < 5
    assert trajectory.stop == "timeout"
    assert trajectory.steps[0].timed_out


def test_one_slow_command_is_killed_and_the_attempt_goes_on(box: Sandbox) -> None:
    trajectory = scripted(bash("sleep 30"), SUBMIT, command_timeout=0.2).run(TASK, box)
    assert trajectory.stop == "submitted"
    assert trajectory.steps[0].timed_out
    assert trajectory.steps[0].exit_code is None


@pytest.mark.parametrize(
    "reply",
    [
        "no call at all",
        render_xml(Call("browse", {"url": "x"})),
        render_xml(Call("bash", {"cmd": "ls"})),
        render_xml(Call("str_replace_editor", {"command": "view"})),
        SUBMIT + SUBMIT,
    ],
)
def test_a_malformed_reply_runs_nothing_and_is_corrected(box: Sandbox, reply: str) -> None:
    trajectory = scripted(reply, SUBMIT).run(TASK, box)
    first = trajectory.steps[0]
    assert first.malformed
    assert (first.tool, first.exit_code, first.command) == ("", None, "")
    assert "Nothing was run" in first.observation
    assert "`bash`" in first.observation
    assert trajectory.stop == "submitted"


def test_a_long_observation_keeps_its_head_and_tail(box: Sandbox) -> None:
    trajectory = scripted(bash("seq 1 20000"), SUBMIT, observation_limit=1000).run(TASK, box)
    shown = trajectory.steps[0].observation
    assert len(shown) < 1300
    assert shown.startswith("OBSERVATION:\n1\n2\n")
    assert shown.endswith("20000\n[exit code 0]")
    assert "characters are left out here" in shown
    assert clip("abc", 3) == "abc"


@dataclass(frozen=True)
class Broken(Conversation):
    """A policy that fails, in the way it is told to."""

    error: BaseException
    at: int = 1
    name: str = "broken"
    fingerprint: str = "broken"

    def start(self, view: TaskView, attempt: int, seed: int) -> Broken:
        if self.at < 0:
            raise self.error
        return self

    def reply(self, messages: Sequence[Message]) -> Reply:
        if len(messages) >= 2 + 2 * self.at:
            raise self.error
        return Reply(FIX)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "told"),
    [(PolicyError("the endpoint said 500"), "the endpoint said 500"), (KeyError("choices"), "KeyError: 'choices'")],
)
@pytest.mark.parametrize("at", [-1, 0, 1])
def test_a_policy_that_fails_is_a_record_and_no_failed_patch(
    box: Sandbox, error: Exception, told: str, at: int
) -> None:
    trajectory = Agent(Broken(error, at), keep_layers=False).run(TASK, box)
    assert (trajectory.stop, trajectory.patch, len(trajectory)) == ("error", "", max(at, 0))
    assert told in trajectory.error


@dataclass(frozen=True)
class Exploding(BaseTool):
    """A tool with a mistake."""

    name: str = "explode"
    description: str = "Explode."
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})

    def call(self, sandbox: Sandbox, shell: Shell, arguments: Mapping[str, Any], limits: ToolLimits) -> Observation:
        raise ZeroDivisionError("my own mistake")


def test_a_tool_that_breaks_is_a_record_that_names_the_tool_and_the_line(box: Sandbox) -> None:
    agent = scripted(render_xml(Call("explode", {})), SUBMIT, tools=(Exploding(), "submit"))
    attempt = agent.attempt(TASK, box)
    assert list(attempt) == []
    trajectory = attempt.trajectory()
    line = Exploding.call.__code__.co_firstlineno + 1
    assert (trajectory.stop, trajectory.patch) == ("error", "")
    assert "calling the tool 'explode' in step 0: ZeroDivisionError: my own mistake" in trajectory.error
    assert trajectory.error.endswith(f"test_agent.py:{line} in call)")
    assert isinstance(attempt.failure, AgentError) and isinstance(attempt.failure.__cause__, ZeroDivisionError)


def test_a_tool_of_ones_own_needs_four_members_and_is_offered_to_models() -> None:
    tool = Exploding()
    assert isinstance(tool, Tool) and tool.identity() == {}
    assert [schema["function"]["name"] for schema in offered([tool])] == ["explode"]


def test_a_conversation_needs_only_a_reply(box: Sandbox) -> None:
    class Short(Conversation):
        def reply(self, messages: Sequence[Message]) -> Reply:
            return Reply(SUBMIT)

    class Shortest(NullPolicy):
        def start(self, view: TaskView, attempt: int, seed: int) -> Short:  # type: ignore[override]
            return Short()

    assert Agent(Shortest(), keep_layers=False).run(TASK, box).stop == "submitted"


def test_a_full_context_ends_the_attempt_like_the_token_limit(box: Sandbox) -> None:
    trajectory = Agent(Broken(ContextFull("8192 tokens are full")), keep_layers=False).run(TASK, box)
    assert (trajectory.stop, trajectory.error) == ("max_tokens", "8192 tokens are full")
    assert "+    return a + b" in trajectory.patch


def test_a_sandbox_that_dies_is_a_record(box: Sandbox) -> None:
    def closing(step: Step) -> None:
        box.close()

    trajectory = scripted(bash("true"), bash("true"), SUBMIT).run(TASK, box, on_step=closing)
    assert (trajectory.stop, len(trajectory), trajectory.patch) == ("error", 1, "")
    assert "closed" in trajectory.error


def test_whatever_an_attempt_leaves_behind_its_patch_is_taken_and_graded(snapshot: Snapshot, box: Sandbox) -> None:
    """An attempt that could make its patch impossible to take would be no failure but an error, which nobody counts."""
    killing = ["sh", "-c", "while :; do kill -KILL -1; done & exit 0"]
    trajectory = scripted(FIX, SUBMIT).run(TASK, box, on_step=lambda step: step.index == 0 and box.run(killing))
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert "+    return a + b" in trajectory.patch
    with open_namespace(snapshot) as other:
        gone = scripted(bash("rm -rf /testbed; exit"), bash("echo on"), SUBMIT).run(TASK, other)
    assert "on" in gone.steps[1].observation
    assert (gone.stop, gone.error) == ("submitted", "")
    assert "deleted file mode 100644" in gone.patch


def test_a_patch_that_cannot_be_told_counts_as_nothing_handed_in(snapshot: Snapshot) -> None:
    fill = "for i in 1 2 3 4; do head -c 40M /dev/zero >/tmp/x$i; head -c 40M /dev/zero >/dev/shm/x$i; done"
    limits = Limits(disk=64 << 20, shared_memory=64 << 20)
    with open_namespace(snapshot, limits=limits) as small:
        # A name that git may ignore: then it needs room for lists, of which there is none.
        agent = scripted(
            FIX,
            bash("mkdir __pycache__x; echo 1 > 'new.__pycache__'; ln -s calc.py .gitattributes"),
            bash(fill),
            SUBMIT,
        )
        trajectory = agent.run(TASK, small)
    assert (trajectory.stop, trajectory.patch) == ("submitted", "")
    assert "taking the patch" in trajectory.error


def test_an_interrupt_passes_through(box: Sandbox) -> None:
    with pytest.raises(KeyboardInterrupt):
        Agent(Broken(KeyboardInterrupt()), keep_layers=False).run(TASK, box)


def test_what_on_step_raises_is_the_callers(box: Sandbox) -> None:
    def wrong(step: Step) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        scripted(bash("true"), SUBMIT).run(TASK, box, on_step=wrong)


def test_steps_come_one_by_one_with_the_sandbox_in_between(box: Sandbox) -> None:
    going = scripted(bash("touch /tmp/one"), bash("cat /tmp/two"), SUBMIT).steps(TASK, box)
    next(going)
    assert box.list("/tmp") == ["one"]
    box.write("/tmp/two", "by hand")
    assert "by hand" in next(going).observation
    going.close()
    assert not box.closed


def test_an_attempt_goes_on_from_the_middle_of_another(snapshot: Snapshot, box: Sandbox) -> None:
    replies = [bash("cd /tmp; echo x > made"), bash("pwd; cat made"), FIX, SUBMIT]
    whole = scripted(*replies).run(TASK, box)
    beginning = replace(whole, steps=whole.steps[:1])
    with open_namespace(snapshot) as other:
        other.write("/tmp/made", "x\n")
        branch = scripted(*replies, max_steps=2).run(TASK, other, resume=beginning)
    assert branch.steps[0] == whole.steps[0]
    assert branch.steps[1].observation == "OBSERVATION:\n/tmp\nx\n[exit code 0]"
    assert (branch.stop, len(branch), branch.opening) == ("max_steps", 2, whole.opening)
    with pytest.raises(ValueError, match=r"are of owner__name-0"):
        scripted(SUBMIT).run(make_task(1), box, resume=whole)


def test_a_replay_repeats_an_attempt_to_the_letter(snapshot: Snapshot, box: Sandbox) -> None:
    told = Reply(FIX, (1, 2), (-0.5, -1.0), (7,), 1, 2, model="m")
    first = scripted(told, "hm", bash("cat calc.py"), SUBMIT).run(TASK, box, attempt=3)
    with open_namespace(snapshot) as other:
        again = Agent(ReplayPolicy(first), keep_layers=False).run(TASK, other, attempt=3)
    assert [step.reply for step in again.steps] == [step.reply for step in first.steps]
    assert again.messages == first.messages
    assert again.patch == first.patch


def test_every_step_names_the_layer_that_holds_its_changes(box: Sandbox) -> None:
    kept: list[Layer] = []
    agent = replace(scripted(FIX, bash("touch new"), SUBMIT), keep_layers=True)
    trajectory = agent.run(TASK, box, layer_sink=kept.append)
    assert [step.layer for step in trajectory.steps] == [layer.digest for layer in kept]
    assert any(path.endswith("calc.py") for _, path in kept[0].entries)
    assert any(path.endswith("new") for _, path in kept[1].entries)


def test_the_mini_flavour_speaks_in_fenced_commands(box: Sandbox) -> None:
    fenced: Callable[[str], str] = lambda command: render_fenced(Call("bash", {"command": command}))  # noqa: E731
    replies = [fenced("echo hi"), bash("echo hi"), fenced("sed -i 's/a - b/a + b/' calc.py"), "```bash\nsubmit\n```"]
    trajectory = scripted(*replies, flavour="mini").run(TASK, box)
    assert trajectory.stop == "submitted"
    assert trajectory.steps[0].observation == "hi\n[exit code 0]"
    assert trajectory.steps[1].malformed
    assert trajectory.patch


def test_the_fingerprint_follows_what_changes_an_attempt_and_nothing_else() -> None:
    agent = Agent(NullPolicy())
    same = [Agent(NullPolicy(), keep_layers=False), pickle.loads(pickle.dumps(agent)), agent.using(NullPolicy())]
    xml = flavours.resolve("xml")
    other = [
        Agent(NullPolicy("fenced")),
        Agent(NullPolicy(), "mini"),
        Agent(NullPolicy(), replace(xml, system=xml.system + " ")),
        Agent(NullPolicy(), max_steps=41),
        Agent(NullPolicy(), max_tokens=1000),
        Agent(NullPolicy(), submit_on_limit=False),
        Agent(NullPolicy(), tools=("bash", "submit")),
    ]
    assert {each.fingerprint for each in same} == {agent.fingerprint}
    assert len({agent.fingerprint, *(each.fingerprint for each in other)}) == 1 + len(other)


def test_wrong_settings_are_refused_at_once() -> None:
    for settings in ({"max_steps": 0}, {"command_timeout": -1.0}, {"flavour": "yaml"}, {"tools": ("shell",)}):
        with pytest.raises(ValueError, match=r"must be positive|no flavour|no tool"):
            Agent(NullPolicy(), **settings)  # type: ignore[arg-type]


def test_a_flavour_is_a_folder_of_prompts(tmp_path: Path) -> None:
    xml = flavours.resolve("xml")
    for part in ("system", "instance", "observation", "format_error"):
        (tmp_path / f"{part}.md").write_text(getattr(xml, part) + "\n")
    mine = Flavour.load(tmp_path)
    assert (mine.system, mine.observation) == (xml.system, xml.observation)
    (tmp_path / "system.md").write_text("Solve {{isue}}")
    with pytest.raises(ValueError, match="isue"):
        Flavour.load(tmp_path)
    (tmp_path / "system.md").unlink()
    with pytest.raises(ValueError, match=r"system\.md is missing"):
        Flavour.load(tmp_path)


def test_braces_in_an_issue_or_an_observation_are_left_alone(box: Sandbox) -> None:
    trajectory = scripted(bash("echo '{{issue}}'"), SUBMIT).run(replace(TASK, issue="about {{tools}}"), box)
    assert "about {{tools}}" in trajectory.opening[1]["content"]
    assert "{{issue}}" in trajectory.steps[0].observation


@pytest.mark.parametrize("name", ["xml", "tool-calling", "coder", "mini"])
def test_every_flavour_carries_an_attempt_through(box: Sandbox, name: str) -> None:
    flavour = flavours.resolve(name)
    replies = [flavour.render(Call("bash", {"command": "sed -i 's/a - b/a + b/' calc.py"}, "I mend it."))]
    if "str_replace_editor" in flavour.tools:
        view = {"command": "view", "path": "/testbed/calc.py", "view_range": JsonValue("[2, 2]")}
        replies.append(flavour.render(Call("str_replace_editor", view, "I look.")))
    replies += ["no call", flavour.render(Call("submit"))]
    trajectory = scripted(*replies, flavour=name).run(TASK, box)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert "+    return a + b" in trajectory.patch
    assert [step.malformed for step in trajectory.steps].count(True) == 1
    if len(replies) == 4:
        assert "return a + b" in trajectory.steps[1].observation
    assert [step.role for step in trajectory.steps if not step.malformed] == [flavour.observation_role] * (
        len(replies) - 1
    )
    assert next(step.role for step in trajectory.steps if step.malformed) == "user"
    assert Trajectory.from_dict(trajectory.to_dict()) == trajectory


def test_a_string_that_was_written_as_another_value_is_refused(box: Sandbox) -> None:
    flavour = flavours.resolve("tool-calling")
    wrong = flavour.render(Call("bash", {"command": JsonValue('["touch", "made"]')}))
    trajectory = scripted(wrong, flavour.render(Call("submit")), flavour=flavour).run(TASK, box)
    assert "must be a string" in trajectory.steps[0].observation
    assert trajectory.patch == ""


@dataclass(frozen=True)
class Briefed(Conversation):
    """A policy that keeps what it is told, and may show the tools itself."""

    shows: bool
    told: list[Brief]
    name: str = "briefed"
    fingerprint: str = "briefed"

    def start(self, view: TaskView, attempt: int, seed: int) -> Briefed:
        return self

    def brief(self, brief: Brief) -> bool:
        self.told.append(brief)
        return self.shows

    def reply(self, messages: Sequence[Message]) -> Reply:
        return Reply(flavours.resolve("tool-calling").render(Call("submit")))

    def close(self) -> None:
        pass


@pytest.mark.parametrize("shows", [True, False])
def test_tools_are_listed_in_the_prompt_unless_the_policy_shows_them_itself(box: Sandbox, shows: bool) -> None:
    policy = Briefed(shows, [])
    trajectory = Agent(policy, "tool-calling", keep_layers=False).run(TASK, box)
    assert ("str_replace_editor" in trajectory.opening[0]["content"]) is not shows
    (brief,) = policy.told
    assert [tool["function"]["name"] for tool in brief.tools] == ["bash", "str_replace_editor", "submit"]
    assert brief.call_format == "json"
    assert time.monotonic() < brief.deadline() < time.monotonic() + 1801
    Agent(policy, "xml", keep_layers=False).run(TASK, box)
    assert policy.told[1].tools == ()


def test_old_observations_are_shown_as_a_line_and_each_segment_is_what_the_policy_saw(box: Sandbox) -> None:
    renderer = Renderer.from_frame(PairTokenizer())
    policy = Sampler([bash("seq 1 40")] * 4 + [SUBMIT], renderer)
    agent = Agent(policy, keep_layers=False, keep_observations=2)
    trajectory = agent.run(TASK, box)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert all("\n39\n40\n" in step.observation for step in trajectory.steps[:4]), "the record keeps them whole"
    found = segments(trajectory)
    assert [step.reply.restart for step in trajectory.steps] == [True, False, False, True, True]
    seen = [renderer.tokenizer.decode(ids) for ids in policy.sent]
    assert [text.count("39\n40") for text in seen] == [0, 1, 2, 2, 2]
    assert [text.count("older observation of 42 lines") for text in seen] == [0, 0, 0, 1, 2]
    for segment, index in zip(found, (2, 3, 4), strict=True):
        assert plain(segment.ids) == policy.sent[index] + plain(trajectory.steps[index].reply.token_ids)
    taught = force(trajectory, renderer, shown=agent.view)
    assert [renderer.tokenizer.decode(s.ids) for s in taught] == [renderer.tokenizer.decode(s.ids) for s in found]


def test_a_long_conversation_goes_on_from_the_policys_own_summary_and_all_of_it_is_trained(box: Sandbox) -> None:
    renderer = Renderer.from_frame(PairTokenizer())
    says = [*[bash("seq 1 100")] * 2, "<think>So far</think>I counted to a hundred.", bash("seq 1 9"), SUBMIT]
    limit = Agent(Sampler(says, renderer), keep_layers=False, max_steps=2).run(TASK, box).steps[1].reply
    assert limit.prompt_tokens and limit.completion_tokens
    compaction = Compaction(limit.prompt_tokens + limit.completion_tokens)
    policy = Sampler(says, renderer)
    agent = Agent(policy, keep_layers=False, history=[compaction])
    trajectory = agent.run(TASK, box)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert [step.observation.endswith(compaction.request) for step in trajectory.steps] == [False, True, *[False] * 3]
    summary = trajectory.steps[2]
    assert summary.extra == {"summary": True} and not summary.calls and not summary.malformed
    assert [step.reply.restart for step in trajectory.steps] == [True, False, False, True, False]
    seen = [renderer.tokenizer.decode(ids) for ids in policy.sent]
    assert TASK.issue in seen[3] and seen[3].count("in your own words:\n\nI counted to a hundred.<|im_end|>") == 1
    assert seen[2].count("\n99\n100") == 2 and "\n99\n100" not in seen[3]
    before, after = segments(trajectory)
    assert plain(before.ids) == policy.sent[2] + plain(summary.reply.token_ids), "the summary ends the first row"
    assert plain(after.ids) == policy.sent[4] + plain(trajectory.steps[4].reply.token_ids)
    for part, steps in ((before, trajectory.steps[:3]), (after, trajectory.steps[3:])):
        said = [token for step in steps for token in plain(step.reply.token_ids)]
        assert part.ids[part.mask == 1].tolist() == said
    taught = force(trajectory, renderer, shown=agent.view)
    assert [renderer.tokenizer.decode(s.ids) for s in taught] == [
        renderer.tokenizer.decode(s.ids) for s in (before, after)
    ]
    again = agent.run(TASK, box, resume=trajectory[:2])
    assert [step.reply.text for step in again.steps] == [step.reply.text for step in trajectory.steps]
    assert Trajectory.from_dict(trajectory.to_dict()) == trajectory


def test_a_summary_is_asked_for_only_where_it_can_be(box: Sandbox) -> None:
    compaction = Compaction(tokens=1)
    counted = Reply(FIX, prompt_tokens=9, completion_tokens=1)
    trajectory = scripted(*[counted] * 9, history=[compaction], max_steps=2).run(TASK, box)
    assert not any(compaction.request in step.observation for step in trajectory.steps), (
        "no reply is left to go on with"
    )
    uncounted = scripted(FIX, history=[compaction]).run(TASK, box)
    assert uncounted.stop == "error" and "does not say how many tokens" in uncounted.error
    with pytest.raises(ValueError, match="more than one Compaction"):
        scripted(history=[compaction, compaction])
    with pytest.raises(ValueError, match="carry holds"):
        Compaction(1, carry="Go on.")
    assert scripted(history=[compaction]).fingerprint != scripted(history=[Compaction(tokens=2)]).fingerprint


def test_a_reminder_says_how_many_replies_are_left(box: Sandbox) -> None:
    trajectory = scripted(bash("true"), "hm", SUBMIT, max_steps=5, reminder="{{left}} replies are left.").run(TASK, box)
    ends = [step.observation.splitlines()[-1] for step in trajectory.steps]
    assert ends == ["4 replies are left.", "3 replies are left.", "2 replies are left."]
    assert Agent(NullPolicy(), reminder="x").fingerprint != Agent(NullPolicy()).fingerprint


def test_what_an_attempt_may_cost_ends_it(box: Sandbox) -> None:
    trajectory = scripted(*[Reply(FIX, cost=0.4)] * 9, max_cost=1.0).run(TASK, box)
    assert (trajectory.stop, len(trajectory)) == ("max_cost", 3)
    assert "+    return a + b" in trajectory.patch

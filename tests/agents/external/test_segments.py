"""Training on what agents of others said: rows hold the very ids that were sampled, each trained on once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swebench_lab.agents.external.cli_agent import CLIAgent
from swebench_lab.errors import ContextFull, TrainingError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import prompts, segments
from swebench_lab.policies.scripted import ScriptedPolicy
from swebench_lab.records.step import Thread
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.training.data.corpus import Corpus, rows_of
from tests.agents.external.agent_of_ours import FILES, REPLIES, kit
from tests.boxes import make_snapshot
from tests.conftest import make_rollout, make_task
from tests.tokens import PairTokenizer, Sampler, plain

TASK = make_task()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return make_snapshot(tmp_path_factory.mktemp("start"), FILES)


def attempt(snapshot, ending: str = "print(work(main))"):
    policy = Sampler(REPLIES, Renderer.of(PairTokenizer()))
    with open_namespace(snapshot) as box:
        return CLIAgent(kit(ending), policy, wall_time=60.0).run(TASK, box), policy


def test_a_row_is_what_the_policy_saw_and_said(snapshot):
    made, policy = attempt(snapshot)
    (segment,) = segments(made)
    said = [plain(step.reply.token_ids) for step in made.steps]
    assert plain(segment.ids) == policy.sent[-1] + said[-1]
    assert plain(segment.ids[segment.mask == 1]) == sum(said, ())
    assert segment.scored and segment.sampled == sum(map(len, said))
    assert [plain(segment.ids)[: len(sent)] for sent in policy.sent] == policy.sent
    (row,) = rows_of(made, policy.renderer)
    assert plain(row.ids) == plain(segment.ids) and plain(row.mask) == plain(segment.mask)


def test_sub_agents_titles_and_requests_that_were_asked_again_are_not_trained_on(snapshot):
    ending = """
ask([{"role": "system", "content": "Make a title."}, {"role": "user", "content": "x"}], tools=[])
side = [{"role": "system", "content": "You search."}, {"role": "user", "content": "find"}]
side.append(ask(side))
side.append({"role": "tool", "tool_call_id": side[-1]["tool_calls"][0]["id"], "content": "x"})
ask(side)
ask(main); main.append(ask(main, seed=2)); main.append({"role": "user", "content": "go on"}); work(main)
"""
    made, policy = attempt(snapshot, ending)
    assert made.steps[0].thread == Thread.AUXILIARY and made.steps[3].thread == Thread.AUXILIARY
    assert [step.thread for step in made.steps[1:3]] == [Thread.SUB_AGENT] * 2
    main = [step.index for step in made.steps if step.thread == Thread.MAIN]
    parts = segments(made)
    said = sum((plain(made.steps[index].reply.token_ids) for index in main), ())
    assert sum(part.sampled for part in parts) == len(said)
    for part in parts:
        assert any(
            plain(part.ids) == sent + plain(step.reply.token_ids)
            for sent, step in zip(policy.sent, made.steps, strict=True)
        )


def test_a_history_that_was_shortened_is_a_segment_of_its_own(snapshot):
    ending = """
work(main)
work([main[0], {"role": "user", "content": "So far: it was looked at and fixed. Go on."}])
"""
    made, _ = attempt(snapshot, ending)
    assert [step.thread for step in made.steps] == [Thread.MAIN] * 6
    one, two = segments(made)
    assert one.sampled and two.sampled


def test_a_corpus_takes_captured_attempts_with_ids_and_leaves_others_out(snapshot):
    made, policy = attempt(snapshot)
    with open_namespace(snapshot) as box:
        other = CLIAgent(kit(), ScriptedPolicy(REPLIES)).run(TASK, box)
    rollouts = [replace(make_rollout(TASK), trajectory=trajectory) for trajectory in (made, other)]
    corpus = Corpus.of_rollouts(rollouts, policy.renderer)
    assert len(corpus) == 1 and corpus.dropped == {"captured without the ids of this tokenizer": 1}
    with pytest.raises(TrainingError, match="cannot be tokenised here"):
        rows_of(other, policy.renderer)


# --- branches --------------------------------------------------------------------------------------------------------------

SPAWN = """
import concurrent.futures
LAST = ""
def search(what):
    time.sleep(0.5 * (what == LAST))
    side = [{"role": "system", "content": "You search."}, {"role": "user", "content": what}]
    work(side)
    return side
ask([{"role": "system", "content": "Make a title."}, {"role": "user", "content": "x"}], tools=[])
said = ask(main); main.append(said)
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(search, ["the sum", "the tests"]))
main.append({"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "took %.2f s" % time.time()})
work(main)
work([main[0], {"role": "user", "content": "So far: it was looked at and fixed. Go on."}])
"""


def test_a_sub_agent_that_comes_earlier_than_it_did_waits_for_those_of_the_record(snapshot):
    late = [SPAWN.replace('LAST = ""', f'LAST = "{what}"') for what in ("the tests", "the sum")]
    policy = Sampler(REPLIES, Renderer.of(PairTokenizer()))
    with open_namespace(snapshot) as box:
        first = CLIAgent(kit(late[0], volatile=(r"took [\d.]+ s",)), policy, wall_time=60.0).run(TASK, box)
    begins = [step.index for step in first.steps if step.reply.restart]
    with open_namespace(snapshot) as box:
        agent = CLIAgent(kit(late[1], volatile=(r"took [\d.]+ s",)), policy, wall_time=60.0)
        branch = agent.run(TASK, box, resume=first[: begins[2] + 1])
    assert branch.stop == "submitted" and not branch.extra["diverged"], branch.error
    assert len(branch.steps) == len(first.steps) == 13


@pytest.mark.parametrize("at", ["the first call", "a sub-agent", "after the sub-agents", "a shortened history"])
def test_a_branch_goes_on_from_the_very_ids_of_the_record_and_can_be_trained_on(snapshot, at):
    policy = Sampler(REPLIES, Renderer.of(PairTokenizer()))
    agent = CLIAgent(kit(SPAWN, volatile=(r"took [\d.]+ s",)), policy, wall_time=60.0)
    with open_namespace(snapshot) as box:
        first = agent.run(TASK, box)
    assert first.stop == "submitted" and len(first.steps) == 13, first.error
    begins = [step.index for step in first.steps if step.reply.restart]
    place = {
        "the first call": 2,
        "a sub-agent": begins[2] + 1,
        "after the sub-agents": max(s.index for s in first.steps if s.thread == Thread.SUB_AGENT) + 1,
        "a shortened history": begins[-1] + 1,
    }[at]
    policy.sent.clear()
    with open_namespace(snapshot) as box:
        branch = agent.run(TASK, box, resume=first[:place])
    assert branch.stop == "submitted" and not branch.extra["diverged"], branch.error
    assert len(branch.steps) == 13 and "a + b" in branch.patch
    repeated = sorted(plain(step.reply.token_ids) for step in branch.steps[:place])
    assert repeated == sorted(plain(step.reply.token_ids) for step in first.steps[:place])
    assert [plain(ids) for ids in prompts(branch)][place:] == policy.sent
    parts = segments(branch)
    main = [step for step in branch.steps if step.thread == Thread.MAIN]
    assert len(parts) == 2 and all(part.scored for part in parts)
    assert [plain(part.ids[part.mask == 1]) for part in parts] == [
        sum((plain(step.reply.token_ids) for step in main[:3]), ()),
        sum((plain(step.reply.token_ids) for step in main[3:]), ()),
    ]


def test_a_request_that_was_refused_as_too_long_is_refused_in_a_branch_as_well(snapshot):
    ending = """
said = ask(main); main.append(said)
main.append({"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "x" * 9000})
try: ask(main)
except urllib.error.HTTPError as error: assert error.code == 400
work([main[0], {"role": "user", "content": "So far: it was looked at. Go on."}])
"""

    def short(view, messages, step):
        if sum(len(message["content"]) for message in messages) > 8000:
            raise ContextFull("the conversation has 9000 tokens and the policy reads 8000: nothing more can be said")
        return REPLIES[min(step, 2)] if "So far" in messages[-1]["content"] or step else REPLIES[0]

    agent = CLIAgent(kit(ending), ScriptedPolicy(short), wall_time=60.0)
    with open_namespace(snapshot) as box:
        first = agent.run(TASK, box)
    assert first.stop == "submitted" and [len(step.extra.get("refused", ())) for step in first.steps][:2] == [0, 1]
    with open_namespace(snapshot) as box:
        branch = agent.run(TASK, box, resume=first[:-1])
    assert branch.stop == "submitted" and not branch.extra["diverged"] and branch.patch == first.patch, branch.error
    (then,), (now,) = (made.steps[1].extra["refused"] for made in (first, branch))
    assert (now["after"], now["from"], now["why"]) == (then["after"], then["from"], then["why"])


def test_a_branch_with_a_hint_keeps_it_in_the_conversation(snapshot):
    policy = Sampler([*REPLIES[:2], REPLIES[0], "Done."], Renderer.of(PairTokenizer()))
    agent = CLIAgent(kit(), policy, wall_time=60.0)
    with open_namespace(snapshot) as box:
        first = agent.run(TASK, box)
    with open_namespace(snapshot) as box:
        branch = agent.run(TASK, box, resume=first[:1], hint="look at calc.py")
    (part,) = segments(branch)
    assert policy.renderer.text(part.ids).count("look at calc.py") == 1
    assert part.sampled == sum(len(step.reply.token_ids) for step in branch.steps)


def test_ids_of_another_tokenizer_are_not_gone_on_from(snapshot):
    class Other(PairTokenizer):
        def __init__(self):
            super().__init__()
            self._ids = {token: 500 + i for token, i in self._ids.items()}
            self._bytes = {i: token.encode() for token, i in self._ids.items()}

    first, _ = attempt(snapshot)
    other = Sampler(REPLIES, Renderer.of(Other()))
    with open_namespace(snapshot) as box:
        branch = CLIAgent(kit(), other, wall_time=60.0).run(TASK, box, resume=first[:1])
    assert not branch.error and branch.steps[1].reply.restart
    assert f"{REPLIES[0]}<|im_end|>" in other.renderer.tokenizer.decode(other.sent[0])

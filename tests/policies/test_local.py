"""LocalPolicy over tiny models made on the spot: exact ids, honest logprobs, batches that change nothing."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.agents.agent import Agent
from swebench_lab.errors import ContextFull, PolicyError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import segments
from swebench_lab.policies.local import LocalPolicy
from swebench_lab.policies.policy import Brief
from swebench_lab.records.reply import Message
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing.conformance.policies import check_policy
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.tokens import PairTokenizer, plain

torch = pytest.importorskip("torch", reason="LocalPolicy is in the extra 'train'")
pytest.importorskip("transformers", reason="LocalPolicy is in the extra 'train'")

from tests.models import tiny_model  # noqa: E402 (needs torch)

TASK = make_task()
RENDERER = Renderer.from_frame(PairTokenizer())
OPENING: list[Message] = [{"role": "system", "content": "You repair."}, {"role": "user", "content": "It breaks."}]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def local(kind: str = "qwen3", **settings: Any) -> LocalPolicy:
    return LocalPolicy(tiny_model(kind), renderer=RENDERER, **{"max_tokens": 12, **settings})


def attempt(policy: LocalPolicy, number: int = 0, steps: int = 4, edit: bool = False) -> Trajectory:
    """Let a policy talk to an environment of fixed words."""
    talk = policy.start(TASK.view(), number, 5)
    trajectory = Trajectory(TASK.id, attempt=number, opening=tuple(OPENING))
    for index in range(steps):
        shown = trajectory.messages
        if edit and index == 2:
            shown = [{**m, "content": "(left out)"} if i == 3 else m for i, m in enumerate(shown)]  # type: ignore[misc]
        reply = talk.reply(shown)
        said = f"OBSERVATION {number}:\n" + "er in\n" * (1 + (number + index) % 4)
        trajectory = replace(trajectory, steps=(*trajectory.steps, Step.of(index, reply, observation=said)))
    talk.close()
    return trajectory


def together(policy: LocalPolicy, numbers: Sequence[int]) -> list[Trajectory]:
    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(lambda number: attempt(policy, number), numbers))


def worst(policy: LocalPolicy, trajectory: Trajectory) -> float:
    """Largest difference between a sampled token's logprob then and now, when all is read in one go."""
    difference = 0.0
    for segment in segments(trajectory):
        now = policy.logprobs(segment.ids)
        difference = max(
            difference,
            *(abs(a - b) for a, b, m in zip(segment.logprobs, now, segment.mask, strict=True) if m),
        )
    return difference


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_logprobs_scored_again_agree_with_the_samplers(kind: str, temperature: float) -> None:
    policy = local(kind, temperature=temperature)
    found = [*together(policy, range(6)), attempt(policy, 7, edit=True)]
    assert max(worst(policy, trajectory) for trajectory in found) < 1e-4
    assert len(segments(found[-1])) == 3, "one observation was left out, and came back"
    lengths = {len(plain(step.reply.token_ids)) for trajectory in found for step in trajectory.steps}
    assert max(lengths) == 12


def test_a_reply_does_not_hang_on_the_batch_it_was_sampled_in() -> None:
    policy = local()
    alone = [attempt(policy, number) for number in range(5)]
    batched = together(policy, range(5))
    for one, other in zip(alone, batched, strict=True):
        assert [plain(s.reply.token_ids) for s in one.steps] == [plain(s.reply.token_ids) for s in other.steps]
        for a, b in zip(one.steps, other.steps, strict=True):
            assert a.reply.logprobs == pytest.approx(b.reply.logprobs, abs=1e-5)


def test_requests_that_wait_are_sampled_together() -> None:
    policy = local(batch_size=4, max_tokens=24)
    calls: list[int] = []
    handle = policy.model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    together(policy, range(8))
    handle.remove()
    assert max(calls) == 4
    assert sum(calls) > 1.5 * len(calls)


def test_what_was_read_before_is_not_read_again() -> None:
    trajectory = attempt(local())
    for before, step in zip(trajectory.steps, trajectory.steps[1:], strict=False):
        # The last sampled token was never read.
        assert step.reply.cached_tokens == before.reply.prompt_tokens + before.reply.completion_tokens - 1
    assert all(step.reply.cached_tokens == 0 for step in attempt(local(deterministic=True)).steps)


def test_deterministic_attempts_repeat_to_the_last_bit_whatever_else_goes_on() -> None:
    policy = local(deterministic=True)
    alone, crowded = attempt(policy, 3), together(policy, range(6))[3]
    assert [plain(s.reply.token_ids) for s in alone.steps] == [plain(s.reply.token_ids) for s in crowded.steps]
    assert [plain(s.reply.logprobs) for s in alone.steps] == [plain(s.reply.logprobs) for s in crowded.steps]


def test_chance_is_keyed_by_attempt_and_step() -> None:
    policy = local()
    first, second = attempt(policy, 0), attempt(policy, 1)
    assert plain(first.steps[0].reply.context_ids) == plain(second.steps[0].reply.context_ids)
    assert plain(first.steps[0].reply.token_ids) != plain(second.steps[0].reply.token_ids)
    entered = policy.start(TASK.view(), 0, 5)
    entered.brief(Brief(before=first[:2]))
    assert plain(entered.reply(first[:2].messages).token_ids) == plain(first.steps[2].reply.token_ids)


def test_weights_changed_in_place_are_used_at_once_and_their_version_is_kept() -> None:
    policy, other = local(), tiny_model(seed=1)
    talk = policy.start(TASK.view(), 0, 5)
    one = talk.reply(OPENING)
    before = policy.fingerprint
    assert policy.update(other.state_dict()) == 1
    history: list[Message] = [*OPENING, {"role": "assistant", "content": one.text}, {"role": "user", "content": "go"}]
    two = talk.reply(history)
    assert (one.version, two.version) == (0, 1)
    assert two.cached_tokens == 0, "what the old weights computed is not used"
    trajectory = Trajectory(TASK.id, opening=tuple(OPENING), steps=(Step(0, one), Step(1, two)))
    (segment,) = segments(trajectory)
    assert {v for v, m in zip(segment.versions, segment.mask, strict=True) if m} == {0, 1}
    now = policy.logprobs(segment.ids)
    start = len(segment) - len(plain(two.token_ids))
    assert now[start:] == pytest.approx(segment.logprobs[start:], abs=1e-4)
    assert policy.fingerprint != before
    with policy.exclusive(version=7) as model, torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    assert policy.version == 7
    with pytest.raises(PolicyError, match="do not fit"):
        policy.update({"nothing": torch.zeros(1)})


def test_weights_change_between_batches_and_never_within_one() -> None:
    policy = local(max_tokens=8)
    stop = threading.Event()

    def trainer() -> None:
        while not stop.wait(0.001):  # or it would hold the model all the time, and nothing were sampled
            with policy.exclusive() as model, torch.no_grad():
                model.lm_head.weight.mul_(-1.0)

    thread = threading.Thread(target=trainer)
    thread.start()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: attempt(policy, number, steps=12), range(4)))
    stop.set()
    thread.join()
    assert len({v for t in found for s in segments(t) for v in s.versions if v >= 0}) > 2
    # Odd versions have the last layer turned round: each reply must agree with the weights of its own version.
    for trajectory in found:
        (segment,) = segments(trajectory)
        for parity in (0, 1):
            if policy.version % 2 != parity:
                policy.update({**policy.model.state_dict(), "lm_head.weight": -policy.model.lm_head.weight})
            now = policy.logprobs(segment.ids)
            for then, again, version in zip(segment.logprobs, now, segment.versions, strict=True):
                if version >= 0 and version % 2 == parity:
                    assert then == pytest.approx(again, abs=1e-4)


def test_a_full_context_and_a_broken_model_end_the_attempt_each_in_its_way(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, {"a.py": "x = 1\n"})
    agent = Agent(local(max_length=4000), keep_layers=False, max_format_errors=99)
    with open_namespace(snapshot) as box:
        trajectory = agent.run(TASK, box)
    assert trajectory.stop == "max_tokens"
    assert "4000" in trajectory.error
    assert len(segments(trajectory)[0]) <= 4000
    broken = local(max_length=4000)
    broken.model.lm_head = None
    with open_namespace(snapshot) as box:
        trajectory = Agent(broken, keep_layers=False).run(TASK, box)
    assert trajectory.stop == "error"
    assert "sampling a reply" in trajectory.error
    with pytest.raises(ContextFull):
        local(max_length=10).start(TASK.view(), 0, 0).reply(OPENING)


def test_one_broken_batch_does_not_stop_the_threads_that_wait() -> None:
    policy = local(batch_size=1)
    turns = iter([True, False, False, False])

    def fail_once(module: Any, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[1] > 1 and next(turns, False):
            raise RuntimeError("out of memory")

    handle = policy.model.register_forward_pre_hook(fail_once, with_kwargs=True)
    ends = []
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(attempt, policy, n, 1) for n in range(4)]:
            ends.append(type(future.exception()).__name__)
    handle.remove()
    assert sorted(ends) == ["NoneType", "NoneType", "NoneType", "PolicyError"]


def test_the_contract_is_kept_and_a_saved_model_is_the_same_policy(tmp_path: Path) -> None:
    policy = local()
    assert check_policy(policy, TASK.view(), OPENING) == []
    policy.model.save_pretrained(tmp_path)
    saved = LocalPolicy(str(tmp_path), renderer=RENDERER, max_tokens=12)
    assert pickle.loads(pickle.dumps(saved)).fingerprint == saved.fingerprint
    replies = [plain(p.start(TASK.view(), 0, 5).reply(OPENING).token_ids) for p in (policy, saved)]
    assert replies[0] == replies[1]
    saved.update()
    with pytest.raises(pickle.PicklingError, match="changed in place"):
        pickle.dumps(saved)
    with pytest.raises(PolicyError, match="loading the model"):
        LocalPolicy(str(tmp_path / "none"), renderer=RENDERER).start(TASK.view(), 0, 0).reply(OPENING)
    with pytest.raises(ValueError, match="tokenizer"):
        LocalPolicy(tiny_model())


def test_a_stop_token_that_only_the_model_names_ends_a_reply_and_is_no_text() -> None:
    policy = local(max_tokens=40)
    policy.model.generation_config.eos_token_id = [257, *range(100, 112)]
    with torch.no_grad():
        policy.model.lm_head.weight[257] = 0.0
    replies = [policy.start(TASK.view(), number, 5).reply(OPENING) for number in range(8)]
    ended = [reply for reply in replies if plain(reply.token_ids)[-1:] and reply.token_ids[-1] in range(100, 112)]
    assert ended
    for reply in ended:
        assert reply.finish_reason == "stop"
        assert reply.text == RENDERER.tokenizer.decode(plain(reply.token_ids)[:-1])


def test_real_chat_templates_and_tokenizers_are_rendered_and_shipped() -> None:
    from tests.models import bpe_tokenizer

    tokenizer = bpe_tokenizer(["You repair. It breaks. OBSERVATION"] * 3, size=300)
    policy = LocalPolicy(tiny_model(vocab=len(tokenizer)), tokenizer, max_tokens=3)
    talk = policy.start(TASK.view(), 0, 0)
    reply = talk.reply(OPENING)
    history: list[Message] = [
        *OPENING,
        {"role": "assistant", "content": reply.text},
        {"role": "user", "content": "\n x"},
    ]
    whole = talk.episode.extend(history)
    expected = tokenizer.apply_chat_template(OPENING, add_generation_prompt=True, tokenize=False)
    assert tokenizer.decode(whole).startswith(expected)
    assert tokenizer.decode(whole).endswith("<|im_end|>\n<|im_start|>user\n\n x<|im_end|>\n<|im_start|>assistant\n")
    sent = pickle.loads(pickle.dumps(policy.renderer))
    assert sent.turn(history[-1:]) == policy.renderer.turn(history[-1:])


def test_logits_can_be_made_in_float32_whatever_the_weights_are(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    wide, plain = (
        LocalPolicy(tmp_path, renderer=RENDERER, dtype="bfloat16", head=head, max_tokens=12) for head in ("float32", "")
    )
    ids = torch.tensor([RENDERER.opening(OPENING)])
    with torch.no_grad():
        fine, rough = wide.model(input_ids=ids).logits, plain.model(input_ids=ids).logits
        assert (fine.dtype, rough.dtype, wide.model.lm_head.weight.dtype) == (torch.float32, *[torch.bfloat16] * 2)
        assert torch.equal(fine.bfloat16(), rough) and not torch.equal(fine, rough.float())
        other = copy.deepcopy(wide.model)
        other.lm_head.weight.zero_()
        assert torch.equal(wide.model(input_ids=ids).logits, fine) and not other(input_ids=ids).logits.any()
    assert wide.fingerprint != plain.fingerprint == LocalPolicy(tmp_path, dtype="bfloat16", max_tokens=12).fingerprint
    with pytest.raises(ValueError, match="give its folder"):
        local(head="float32")

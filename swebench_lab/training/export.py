"""Export: graded rollouts as the rows that other trainers take, id for id as they were sampled.

| form | one file of | who makes advantages |
|---|---|---|
| `verl` | JSON lines, each the fields of an `AgentLoopOutput` | verl, by `extra_fields["uid"]` |
| `skyrl` | one JSON object, the fields of a `GeneratorOutput`, step-wise | SkyRL, by `trajectory_ids` |
| `prime-rl` | JSON lines, each a `TrainingSample` as its struct is laid out | this package, by the settings |

What `GRPO` would leave out of a group's mean (an infrastructure error, an over-long attempt) is not written; what it would
keep in the mean and not train on is written with an empty mask, or, where advantages are written, not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from swebench_lab.errors import TrainingError
from swebench_lab.formats.token_ledger import Segment
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.training.engines.batches import Sample, samples
from swebench_lab.training.options.rules import Rules
from swebench_lab.training.options.settings import GRPOSettings


def export_rollouts(
    rollouts: Rollouts, path: str | Path, form: str, settings: GRPOSettings | None = None, temperature: float = 1.0
) -> int:
    """Write rollouts of a token-exact policy as another trainer's training data.

    Args:
        rollouts: Graded attempts; those at one task are one group.
        path: File to write.
        form: `verl`, `skyrl` or `prime-rl`.
        settings: Whose rules, bounds of length and scaling decide what is written; None: GRPO's defaults, but groups
            without variance are written too where the other trainer makes the advantages.
        temperature: What the attempts were sampled at; `prime-rl` divides logits by it.

    Returns:
        Rows written.

    Raises:
        TrainingError: The form is unknown, nothing is left to write, a sampled token has no logprob, or, for `verl`,
            an attempt has several rows, which it cannot count as one.
    """
    if form not in _FORMS:
        raise TrainingError(f"export_rollouts(form={form!r}): choose {', '.join(map(repr, _FORMS))}")
    own = form == "prime-rl"
    options = settings or (GRPOSettings() if own else GRPOSettings(rules=Rules(zero_variance="keep")))
    batch = [sample for group in rollouts.by_task().values() for sample in samples(list(group), options)]
    parts = [(sample, part) for sample in batch if _counts(sample, own) for part in sample.segments if part.sampled]
    if not parts:
        raise TrainingError(f"export_rollouts: none of {len(rollouts)} attempts is left to write; see Rules")
    for sample, part in parts:
        if not part.scored:
            raise TrainingError(f"export_rollouts: {_name(sample.rollout)} holds tokens without logprobs; it was made by a "
                                "policy that does not keep them")  # fmt: skip
    text = "".join(_FORMS[form](parts, temperature))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, "utf-8")
    return len(parts)


Parts = list[tuple[Sample, Segment]]


def _counts(sample: Sample, advantages: bool) -> bool:
    return not sample.masked if advantages else sample.reward is not None


def _name(rollout: Rollout) -> str:
    return f"attempt {rollout.trajectory.attempt} at {rollout.task.id}"


def _mask(sample: Sample, part: Segment) -> list[int]:
    return [0] * len(part) if sample.masked else [int(on) for on in part.mask]


def _split(sample: Sample, part: Segment) -> tuple[list[int], list[int], list[int], list[float]]:
    """Return the ids before the first sampled one, then those from it on with their mask and logprobs."""
    first = int(part.mask.argmax())
    ids: list[int] = part.ids.tolist()
    return ids[:first], ids[first:], _mask(sample, part)[first:], part.logprobs.tolist()[first:]


def _verl(parts: Parts, _: float) -> Iterator[str]:
    seen: set[tuple[str, int]] = set()
    for sample, part in parts:
        rollout = sample.rollout
        key = (rollout.task.id, rollout.trajectory.attempt)
        if key in seen:
            raise TrainingError(f"export_rollouts(form='verl'): {_name(rollout)} has several rows, since its history was "
                                "edited, and verl's form holds one an attempt; choose 'skyrl' or 'prime-rl'")  # fmt: skip
        seen.add(key)
        prompt, response, mask, logprobs = _split(sample, part)
        row = {
            "prompt_ids": prompt,
            "response_ids": response,
            "response_mask": mask,
            "response_logprobs": logprobs,
            "reward_score": sample.reward,
            "num_turns": 2 * len(rollout.trajectory.steps),
            "metrics": {
                "generate_sequences": sum(step.reply.seconds for step in rollout.trajectory.steps),
                "tool_calls": sum(step.seconds for step in rollout.trajectory.steps),
            },
            "extra_fields": {"uid": rollout.task.id, "attempt": rollout.trajectory.attempt, **_facts(rollout)},
        }
        yield json.dumps(row) + "\n"


def _skyrl(parts: Parts, _: float) -> Iterator[str]:
    split = [_split(sample, part) for sample, part in parts]
    ends = [k + 1 == len(parts) or parts[k + 1][0] is not sample for k, (sample, _) in enumerate(parts)]
    names = [{"instance_id": s.rollout.task.id, "repetition_id": s.rollout.trajectory.attempt} for s, _ in parts]
    yield json.dumps({
        "prompt_token_ids": [prompt for prompt, _, _, _ in split],
        "response_ids": [response for _, response, _, _ in split],
        "rewards": [sample.reward for sample, _ in parts],
        "loss_masks": [mask for _, _, mask, _ in split],
        "stop_reasons": [_facts(sample.rollout)["stop"] for sample, _ in parts],
        "rollout_metrics": None,
        "rollout_logprobs": [logprobs for _, _, _, logprobs in split],
        "trajectory_ids": names,
        "trajectory_generation_times": None,
        "trajectory_time_splits": None,
        "rollout_expert_indices": None,
        "is_last_step": ends,
        "env_metrics": [_facts(sample.rollout) for sample, _ in parts],
        "pixel_values": None,
        "image_grid_thw": None,
    })  # fmt: skip


def _prime_rl(parts: Parts, temperature: float) -> Iterator[str]:
    for sample, part in parts:
        on = [bool(bit) for bit in part.mask]
        advantages = [float(sample.advantage) * bit for bit in on]
        without = [None] * 7  # reference logprobs, images, experts, and the weights of the loss's three parts
        row = [part.ids.tolist(), on, part.logprobs.tolist(), [temperature] * len(part), "swebench_lab", *without]
        yield json.dumps([*row, advantages]) + "\n"


def _facts(rollout: Rollout) -> dict[str, Any]:
    verdict = rollout.verdict
    return {"stop": str(rollout.trajectory.stop), "verdict": str(verdict.status), "cause": str(verdict.cause or "")}


_FORMS: dict[str, Callable[[Parts, float], Iterable[str]]] = {"verl": _verl, "skyrl": _skyrl, "prime-rl": _prime_rl}
"""Form → what its file holds."""

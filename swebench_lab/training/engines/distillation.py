"""Distillation: what a teacher thinks of each token that the policy sampled, on the policy's own attempts.

Each sampled token's advantage rises by the weight times (the teacher's logprob of it - the sampler's): in the mean that
is the reverse KL divergence from the policy to its teacher, token by token, beside the reward of the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from swebench_lab.errors import TrainingError
from swebench_lab.records.arrays import Ids, Logprobs
from swebench_lab.training.engines.batches import Sample

AT_ONCE = 16
"""Rows that a teacher is asked about at the same time."""


class Grader(Protocol):
    """A policy that says how likely it finds given ids: a LocalPolicy, or a token-exact ChatPolicy of vLLM's."""

    name: str

    def logprobs(self, ids: Sequence[int] | Ids) -> Logprobs:
        """Return the logprob of each id after those before it."""

    def load_tokenizer(self) -> Any:
        """Return the model's tokenizer."""


class Distillation:
    """A teacher and how much it counts.

    Args:
        teacher: Who grades tokens.
        weight: What the difference of logprobs is multiplied by.
        tokenizer: The policy's.

    Raises:
        TrainingError: The teacher does not grade ids, or its ids mean other tokens than the policy's.
    """

    def __init__(self, teacher: Grader, weight: float, tokenizer: Any) -> None:
        self.teacher, self.weight = teacher, weight
        if not (hasattr(teacher, "logprobs") and hasattr(teacher, "load_tokenizer")):
            raise TrainingError(
                "GRPO(teacher=…): it must say how likely given ids are: a LocalPolicy, or lab.serve(…).policy()"
            )
        if teacher.load_tokenizer().get_vocab() != tokenizer.get_vocab():
            raise TrainingError(f"GRPO(teacher=…): the tokens of {teacher.name!r} are not those of the policy, whose ids it is "
                                "to grade; choose a teacher of the same family of models")  # fmt: skip

    def hints(self, batch: Sequence[Sample]) -> dict[int, Logprobs]:
        """Return id() of a sample → what is added to the advantage of each of its rows' tokens, the rows joined.

        Args:
            batch: The samples; those that are masked are not graded.
        """
        active = [sample for sample in batch if not sample.masked]
        parts = [part for sample in active for part in sample.segments if part.sampled]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            graded = pool.map(self.teacher.logprobs, [part.ids for part in parts])
            terms = iter([
                np.where(part.mask == 1, self.weight * (np.asarray(scores) - part.logprobs), 0.0).astype("float32")
                for part, scores in zip(parts, graded, strict=True)
            ])  # fmt: skip
        return {id(s): np.concatenate([next(terms) for part in s.segments if part.sampled]) for s in active}


def add_hints(output: Any, hints: Mapping[bytes, Logprobs], key: Callable[[Sequence[int]], bytes]) -> float:
    """Give a batch advantages of tokens: those of the attempts, and what the teacher adds.

    Args:
        output: A batch as TRL has it, changed in place; its `advantages` have one entry a row.
        hints: Key of a row → what is added from the first completion token on.
        key: Function of a row's ids.

    Returns:
        The mean of what is added to a token.
    """
    import torch

    rows, width = output["completion_ids"].shape
    advantages = output["advantages"][:, None].expand(rows, width).clone()
    ids, mask = (torch.cat([output[f"prompt_{what}"], output[f"completion_{what}"]], 1) for what in ("ids", "mask"))
    additions: list[Logprobs] = []
    for number in range(rows):
        hint = hints.get(key(ids[number][mask[number].bool()].tolist()))
        if hint is not None:
            advantages[number, : len(hint)] += torch.as_tensor(hint, device=advantages.device)
            additions.append(hint[hint != 0])
    output["advantages"] = advantages
    every = np.concatenate(additions) if additions else np.zeros(0)
    return float(every.mean()) if len(every) else 0.0

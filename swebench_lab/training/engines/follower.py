"""Follower: keeps what samples at the weights of a model in training, and proves after every update that it is.

All processes that train together call `bring`, since sharded weights are gathered by all of them; the first one talks
to the samplers. After each update every sampler answers a short prompt, and the trainer scores the very tokens: where
the logprobs differ by more than rounding explains, the weights did not arrive as they are, and training stops at once.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import LabError, TrainingError
from swebench_lab.policies.sampling import score
from swebench_lab.policies.trainable import Probed, WeightSink
from swebench_lab.training.model.processes import is_main, shared
from swebench_lab.training.model.weights import manifest, stream

_log = logging.getLogger(__name__)

TOKENS = 24
"""Tokens that each sampler is asked for after an update."""
PROMPT = 96
"""Most tokens of the prompt before them."""

Scores = Callable[[Any, Sequence[int]], list[float]]
"""Function of a model and a row of ids: the logprob of each id but the first, at the policy's temperature."""


class Follower:
    """Brings weights to the samplers of a run.

    Args:
        sink: Where the weights go; None on all processes but the first.
        prompt: What the samplers are asked to go on from, in ids.
        scores: How the trainer's model scores a row of ids; called by all processes.
        folder: Where an adapter is written, if it is all that travels; the samplers must see it.
    """

    def __init__(self, sink: WeightSink | None, prompt: Sequence[int], scores: Scores, folder: Path) -> None:
        self.sink, self.prompt, self.scores, self.folder = sink, list(prompt)[:PROMPT], scores, folder
        self.seconds: list[float] = []
        """How long each update took, the probe included."""
        self.gaps: list[float] = []
        """Largest difference of logprobs at each probe; empty where the sampler is in this process."""
        self._brought = -1
        self._way: tuple[bool, bool, float] | None = None

    def bring(self, model: Any, version: int) -> None:
        """Bring a model's weights to all samplers, and prove that they are there.

        Args:
            model: The model, bare of what a trainer wraps around it.
            version: What the weights count as afterwards; where it was brought already, nothing is done.

        Raises:
            TrainingError: They did not arrive, or not as they are.
        """
        if version == self._brought:
            return
        began = time.monotonic()
        try:
            adapter_only, untied, tolerance = self._open(model)
            if adapter_only:
                self._bring_adapter(model, version)
            else:
                self._bring_weights(model, version, untied)
        except LabError as error:
            raise TrainingError(f"bringing weights {version} to what samples: {error}") from error
        self.check(model, tolerance, version)
        self._brought = version
        self.seconds.append(time.monotonic() - began)
        _log.info("weights %d brought in %.2f s, logprob gap %s", version, self.seconds[-1], self.gaps[-1:])

    def _open(self, model: Any) -> tuple[bool, bool, float]:
        """Set up the way once; return how it wants its weights, which all processes have to know."""
        if self._way is None:

            def open_way() -> tuple[bool, bool, float]:
                assert self.sink is not None
                self.sink.open(manifest(model, self.sink.untied), hasattr(model, "peft_config"))
                return self.sink.adapter_only, self.sink.untied, self.sink.tolerance

            self._way = shared(open_way)
        return self._way

    def _bring_weights(self, model: Any, version: int, untied: bool) -> None:
        """Stream all weights; where the first process fails, the others are told instead of left waiting."""
        weights = stream(model, untied)

        def send() -> None:
            assert self.sink is not None
            try:
                self.sink.take(weights, version)
            finally:
                for _ in weights:  # the other processes gather to the end
                    pass

        if not is_main():
            for _ in weights:
                pass
        shared(send)

    def _bring_adapter(self, model: Any, version: int) -> None:
        """Write the adapter alone and have it loaded."""
        folder = self.folder / f"adapter-{version}"
        weights = {
            name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().cpu().contiguous()
            for name, value in model.state_dict().items()
            if model.prefix in name
        }

        def load() -> None:
            assert self.sink is not None
            model.save_pretrained(folder, state_dict=weights)
            self.sink.take_adapter(folder.resolve(), version)

        shared(load)

    def check(self, model: Any, tolerance: float, version: int) -> None:
        """Compare the samplers' logprobs with the trainer's.

        Raises:
            TrainingError: They differ by more than rounding explains.
        """
        probed: list[Probed] = shared(lambda: self.sink.probe(self.prompt, TOKENS) if self.sink else [])
        worst = 0.0
        for answer in probed:
            own = self.scores(model, answer.ids)[answer.prompt - 1 :]
            gaps = [abs(a - b) for a, b in zip(own, answer.logprobs, strict=True)]
            worst = max(worst, *gaps)
            if not statistics.fmean(gaps) <= tolerance:
                raise TrainingError(
                    f"after weights {version} were brought to {answer.where}, it gives the {len(gaps)} tokens that it "
                    f"sampled logprobs that differ from the trainer's by {statistics.fmean(gaps):.3g} on average, where "
                    f"rounding explains {tolerance:g}: it does not hold the trainer's weights. Where the embedding and the "
                    "last layer share one tensor, serve an untied copy of the model "
                    "(tie_word_embeddings=False); else see that the server runs this very model, with no quantisation and no "
                    "sampling settings of its own, and that dtype and head are the trainer's"
                )
        if probed:
            self.gaps.append(worst)

    def close(self) -> None:
        """Release what the way needed; may be called more than once."""
        if self.sink is not None:
            self.sink.close()


def score_plainly(model: Any, ids: Sequence[int], temperature: float) -> list[float]:
    """Return the logprob of each id of a row but the first, read in one go by all processes."""
    return [float(value) for value in score(model, ids, temperature)[1:]]

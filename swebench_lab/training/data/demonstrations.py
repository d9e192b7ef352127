"""Demonstrations of micro tasks as they would be recorded, written without a sandbox.

A small model has to read some ten thousand of them, and a sandbox for each would take hours. The module is shown and
the suite is run by the same text that runs in the box (`micro/program.py`, `Draft.answer_to`), so each is word for word
what the collector records for that task and teacher; a test holds this against real attempts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from random import Random

from swebench_lab.agents import flavour as flavours
from swebench_lab.agents.tools import by_name as tools
from swebench_lab.agents.tools.in_sandbox.micro import listing
from swebench_lab.agents.tools.tool import Tool
from swebench_lab.records.reply import Message, Reply, text_of
from swebench_lab.records.step import Step
from swebench_lab.records.task import TaskView
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.tasks.micro.build import Draft, drafts
from swebench_lab.tasks.micro.teacher import demonstrated_edits

HANDED_IN = "The work is handed in."


def micro_demonstrations(count: int, seed: int = 1, slips: float = 0.25, split: str = "train") -> Iterator[Trajectory]:
    """Yield demonstrations of fresh tasks.

    Args:
        count: How many.
        seed: Another seed draws other tasks; 0 is that of the bundled set itself.
        slips: Probability of a wrong edit before the right one.
        split: Families of the training or the testing split.
    """
    for draft in islice(drafts(split, seed), count):
        yield demonstration(draft, slips)


def demonstration(draft: Draft, slips: float, seed: int = 0, attempt: int = 0) -> Trajectory:
    """Return what MicroTeacher's attempt at a draft's task is recorded as."""
    code = listing(draft.bad, draft.function.name)
    rng = Random(f"slips/{seed}/{draft.id}/{attempt}")
    exchanges = [(f"view {draft.function.name}", code)]
    exchanges += [(f"sub {order}", draft.answer_to(order)) for order in _edits_until_pass(draft, code, slips, rng)]
    exchanges.append(("submit", HANDED_IN))
    steps = tuple(
        Step.of(i, Reply(text), tool=text.split()[0], observation=output) for i, (text, output) in enumerate(exchanges)
    )
    return Trajectory(draft.id, attempt, opening=_opening(draft), steps=steps, stop=Stop.SUBMITTED.value,
                      policy="micro teacher", flavour="micro")  # fmt: skip


def _edits_until_pass(draft: Draft, code: str, slips: float, rng: Random) -> Iterator[str]:
    for order in demonstrated_edits(code, draft.issue, draft.fix, slips, rng):
        yield order
        if draft.answer_to(order) == "passed":
            return


def _opening(draft: Draft) -> tuple[Message, ...]:
    flavour = flavours.resolve("micro")
    return flavour.opening(TaskView(draft.id, "micro/base", draft.issue), _tools())


@lru_cache(maxsize=1)
def _tools() -> tuple[Tool, ...]:
    return tools.resolve(flavours.resolve("micro").tools)


def texts_for_tokenizer(count: int = 600) -> Iterator[str]:
    """Yield what a micro model's tokenizer is trained on: demonstrations of training families, and every number and mark."""
    for trajectory in micro_demonstrations(count):
        yield from (text_of(message) for message in trajectory.messages)
    for number in range(100):
        yield from [f"{number} @{number}"] * 20

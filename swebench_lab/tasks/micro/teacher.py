"""MicroTeacher and RandomEdits: who shows a small model how the micro set is repaired, and who only guesses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from swebench_lab.errors import PolicyError
from swebench_lab.policies.policy import Conversation, fingerprint, replies_so_far
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.task import Task, TaskView
from swebench_lab.tasks.micro.bugs import mends


class MicroTeacher:
    """Solves the micro tasks it was built with, now and then after a wrong edit that it notices by the tests.

    Args:
        tasks: The tasks it may know.
        slips: Probability that the first edit is a wrong one.
        seed: Decides which attempts slip, and how.
    """

    name = "micro teacher"

    def __init__(self, tasks: Iterable[Task], slips: float = 0.25, seed: int = 0) -> None:
        if not 0.0 <= slips <= 1.0:
            raise ValueError(f"making a MicroTeacher: slips={slips!r} is not a probability")
        self._fixes = {task.id: str(task.extra.get("fix", "")) for task in tasks}
        if unknown := [name for name, fix in self._fixes.items() if not fix]:
            raise ValueError(f"making a MicroTeacher: {unknown[0]!r} is no task of the micro set")
        self.slips, self.seed = slips, seed

    @property
    def fingerprint(self) -> str:
        """A hash over what it knows and how it slips."""
        return fingerprint(self.name, fixes=self._fixes, slips=self.slips, seed=self.seed)

    def start(self, view: TaskView, attempt: int, seed: int) -> MicroConversation:
        """Begin one attempt.

        Raises:
            PolicyError: The task is not one of those it was built with.
        """
        if view.id not in self._fixes:
            raise PolicyError(f"the micro teacher knows nothing of task {view.id}; build it with the tasks to solve")
        dice = Random(f"slips/{self.seed}/{view.id}/{attempt}")
        name = view.issue.split()[0]
        return MicroConversation(
            lambda code: demonstrated_edits(code, view.issue, self._fixes[view.id], self.slips, dice), name
        )


class RandomEdits:
    """Tries edits at random: what the tests alone are worth to somebody who understands nothing.

    Args:
        aimed: Whether only lines of the function that the issue names are edited.
    """

    def __init__(self, aimed: bool = True) -> None:
        self.aimed = aimed
        self.name = "random edits" + (", aimed" if aimed else "")

    @property
    def fingerprint(self) -> str:
        """A hash over where it edits."""
        return fingerprint("random edits", aimed=self.aimed)

    def start(self, view: TaskView, attempt: int, seed: int) -> MicroConversation:
        """Begin one attempt."""
        dice = Random(f"random/{seed}")
        name = view.issue.split()[0] if self.aimed else ""

        def orders(code: str) -> Iterator[str]:
            options = candidates(code, name)
            dice.shuffle(options)
            return iter(options)

        return MicroConversation(orders, name)


class MicroConversation(Conversation):
    """Looks at the module, gives orders until the tests pass, and hands in.

    Args:
        orders: Function of the code as it is shown, returning what `sub` is told, in turns.
        name: The function that is looked at; empty: the whole module.
    """

    def __init__(self, orders: object, name: str = "") -> None:
        self._make = orders
        self._name = name
        self._orders: Iterator[str] | None = None

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Say what comes next.

        Raises:
            PolicyError: It is out of ideas.
        """
        count = replies_so_far(messages)
        output = messages[-1]["content"]
        if count == 0:
            return Reply(f"view {self._name}".strip())
        if count > 1 and output == "passed":
            return Reply("submit")
        if self._orders is None:
            assert callable(self._make)
            self._orders = iter(self._make(messages[3]["content"]))
        order = next(self._orders, None)
        if order is None:
            raise PolicyError("every edit there is was tried, and the tests still fail")
        return Reply(f"sub {order}")

    def close(self) -> None:
        """Nothing is held."""


_SHOWN = re.compile(r"@(\d+) (.*)")


def candidates(code: str, name: str = "") -> list[str]:
    """Return every order for `sub` that may take a one-token bug of some line back.

    Args:
        code: What `view` shows.
        name: The function that is edited; empty: any.
    """
    orders: list[str] = []
    inside = not name
    for number, line in _SHOWN.findall(code):
        if line.startswith("def "):
            inside = not name or line.startswith(f"def {name}(")
        elif inside:
            orders += [f"@{number} {old} {new}" for old, new in mends(line)]
    return orders


def demonstrated_edits(code: str, issue: str, fix: str, slips: float, dice: Random) -> list[str]:
    """Return the orders of one demonstration: the right edit, perhaps after a wrong one.

    Args:
        code: What `view` shows.
        issue: The issue, whose first word names the function.
        fix: The right order.
        slips: Probability of a wrong one before it.
        dice: Where chance comes from.
    """
    wrong = [order for order in candidates(code, issue.split()[0]) if order != fix]
    return [dice.choice(wrong), fix] if wrong and dice.random() < slips else [fix]

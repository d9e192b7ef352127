"""Teacher and NoisyTeacher: attempts made from gold patches, the way a careful or a careless person would make them.

A teacher is built with the Tasks it may know. An attempt is a plan, written as a generator: it yields a call with a
thought, is given the observation, and goes on (see `plans.py`). Order is drawn from the attempt's seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from random import Random

from swebench_lab.errors import PolicyError
from swebench_lab.formats.calls import FORMATS
from swebench_lab.policies.policy import Brief, Conversation, fingerprint, replies_so_far
from swebench_lab.policies.teachers.plans import Plan, Planner
from swebench_lab.records.reply import Message, Reply, is_reply, text_of
from swebench_lab.records.task import Task, TaskView

_VERSION = 1
"""Raise when what teachers say changes: fingerprints of agents follow, so old records are not taken for new ones."""

_UNTOLD = Brief().call_format
"""What is spoken where nobody says in which format."""


class Teacher:
    """Solves the tasks it was built with, by their gold patches.

    Args:
        tasks: The tasks it may know.
        call_format: Call format to speak in, one of `calls.FORMATS`; empty: that of the agent.
    """

    name = "teacher"

    def __init__(self, tasks: Iterable[Task], call_format: str = "") -> None:
        if call_format and call_format not in FORMATS:
            raise ValueError(f"making a teacher: unknown call format {call_format!r}; known are {', '.join(FORMATS)}")
        self.call_format = call_format
        self._tasks = {task.id: task for task in tasks}

    @property
    def fingerprint(self) -> str:
        """A hash over the version, the call format, and every task's issue and gold patch."""
        spoken = self.call_format or _UNTOLD
        return fingerprint(self.name, version=_VERSION, call_format=spoken, known=self._task_fingerprints())

    def _task_fingerprints(self) -> list[str]:
        parts = ((t.id, t.issue, t.gold_patch, *t.fail_to_pass, *t.pass_to_pass) for t in self._tasks.values())
        return sorted(fingerprint("task", parts=list(part)) for part in parts)

    def start(self, view: TaskView, attempt: int, seed: int) -> TeacherConversation:
        """Begin one attempt.

        Raises:
            PolicyError: The task is not one of those the teacher was built with.
        """
        task = self._tasks.get(view.id)
        if task is None:
            raise PolicyError(
                f"the {self.name} knows nothing of task {view.id}; build it with the tasks it is to solve: "
                f"{type(self).__name__}(tasks)"
            )

        def plan(told: str) -> Plan:
            spoken = self.call_format or told
            return self._plan(Planner(task, view, Random(f"{seed}/{task.id}/{attempt}"), spoken), attempt)

        return TeacherConversation(plan, self.name)

    def _plan(self, going: Planner, attempt: int) -> Plan:
        return going.solve()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._tasks)} tasks)"


class NoisyTeacher(Teacher):
    """A Teacher that goes wrong in a share of its attempts, so that collections have something to learn from.

    Whether and how an attempt goes wrong depends on the teacher's seed, the task and the attempt only. A wrong
    attempt is made to fail, but its tests decide: now and then a wrong edit happens to be right.

    Args:
        tasks: The tasks it may know.
        p: Probability, per attempt, to go wrong.
        seed: Decides which attempts go wrong, and how.
        call_format: Call format to speak in; empty: that of the agent.
    """

    name = "noisy teacher"

    def __init__(self, tasks: Iterable[Task], p: float = 0.5, seed: int = 0, call_format: str = "") -> None:
        super().__init__(tasks, call_format)
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"making a NoisyTeacher: p={p!r} is not a probability")
        self.p, self.seed = p, seed

    @property
    def fingerprint(self) -> str:
        """A hash over what a Teacher's holds, and the probability and the seed."""
        settings = {"p": self.p, "seed": self.seed, "version": _VERSION, "call_format": self.call_format or _UNTOLD}
        return fingerprint(self.name, known=self._task_fingerprints(), **settings)

    def goes_wrong(self, task_id: str, attempt: int) -> bool:
        """Return whether this attempt at this task is one of the wrong ones."""
        return self._dice(task_id, attempt).random() < self.p

    def _dice(self, task_id: str, attempt: int) -> Random:
        return Random(f"noise/{self.seed}/{task_id}/{attempt}")

    def _plan(self, going: Planner, attempt: int) -> Plan:
        dice = self._dice(going.task.id, attempt)
        if dice.random() >= self.p:
            return going.solve()
        return going.fail(dice)

    def __repr__(self) -> str:
        return f"NoisyTeacher({len(self._tasks)} tasks, p={self.p}, seed={self.seed})"


class TeacherConversation(Conversation):
    """A teacher's conversation: a plan under way.

    Entered in the middle of its own attempt it goes on from there; in the middle of another's it begins its plan anew.

    Args:
        plan: Makes the plan, given the agent's call format.
        model: What replies say they are from.
    """

    def __init__(self, plan: Callable[[str], Plan], model: str) -> None:
        self._make = plan
        self._told = _UNTOLD
        self._model = model
        self._plan: Plan | None = None
        self._reply_count = 0  # replies in the history that the plan knows of
        self._is_running = False

    def brief(self, brief: Brief) -> bool:
        """Take the agent's call format over."""
        self._told = brief.call_format
        return False

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Say what comes next in the plan.

        Raises:
            PolicyError: The plan is at its end.
        """
        if self._plan is None or replies_so_far(messages) != self._reply_count:
            self._catch_up(messages)
        text = self._next(text_of(messages[-1]))
        if text is None:
            raise PolicyError("the teacher has handed its work in and has nothing more to say")
        self._reply_count += 1
        return Reply(text, model=self._model, finish_reason="stop")

    def _next(self, observation: str) -> str | None:
        assert self._plan is not None
        try:
            text = self._plan.send(observation) if self._is_running else next(self._plan)
        except StopIteration:
            return None
        self._is_running = True
        return text

    def _catch_up(self, messages: Sequence[Message]) -> None:
        """Go through the history as if it had been this plan's own; if it is not, begin anew."""
        self._plan, self._is_running, self._reply_count = self._make(self._told), False, replies_so_far(messages)
        for before, message in pairwise(messages):
            if is_reply(message) and self._next(text_of(before)) != message["content"]:
                self._plan, self._is_running = self._make(self._told), False
                return

    def close(self) -> None:
        """End the plan."""
        if self._plan is not None:
            self._plan.close()

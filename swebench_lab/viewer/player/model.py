"""PlayerModel: one attempt to walk through, its files at every step, and a live sandbox to branch from; no view."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from swebench_lab.errors import LabError, PolicyError, SandboxError
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.step_kind import Kind, kind_of
from swebench_lab.viewer import story
from swebench_lab.viewer.player import growing
from swebench_lab.viewer.player.alive import Key, LiveBox, LiveBoxes
from swebench_lab.viewer.player.branches import Branch, Branches
from swebench_lab.viewer.player.file_history import FileChange, History
from swebench_lab.viewer.player.terminal import Terminal

if TYPE_CHECKING:
    from swebench_lab.agents.agent import Agent
    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.policies.policy import Policy
    from swebench_lab.records.trajectory import Step
    from swebench_lab.sandbox.contract import Result, Sandbox
    from swebench_lab.snapshots.factory import SandboxFactory

START = -1
"""The position before the first step: the tree the attempt started from."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A command that a person ran in a live sandbox.

    Args:
        node: Id of the branch; empty: the attempt itself.
        step: The step whose state the sandbox had.
        command: What was typed.
        output: What it said, as text; not neutralised.
        ending: How it ended, in words.
        seconds: Wall time.
    """

    node: str
    step: int
    command: str
    output: str
    ending: str
    seconds: float


class PlayerModel:
    """One attempt, step by step.

    All methods may be called from any thread; those that open sandboxes or run something take their time and hold no
    lock meanwhile. Subscribers are told the name of what changed: `cursor`, `filter`, `live`, `log`, `node`, `branches`.

    Args:
        rollout: The attempt.
        sandboxes: Where it comes alive; None: it can only be looked at.
        agent: Who goes on in a branch, unless `branch` is told otherwise.
        evaluator: What grades branches; None: an `Evaluator` over `sandboxes`.
        step: Where to stand at first; None: the first step.
        run_dir: Where branches are kept; None: the run directory the attempt came from, or else a folder that goes with
            this object.
        boxes: Sandboxes open at once.
    """

    def __init__(
        self,
        rollout: Rollout,
        sandboxes: SandboxFactory | None = None,
        *,
        agent: Agent | None = None,
        evaluator: Evaluator | None = None,
        step: int | None = None,
        run_dir: str | Path | None = None,
        boxes: int = 4,
    ) -> None:
        self.sandboxes, self.agent, self._evaluator = sandboxes, agent, evaluator
        self._temporary = "" if run_dir or rollout.layers else tempfile.mkdtemp(prefix="swebench-lab-player-")
        self.run_dir = Path(run_dir or self._temporary or Path(rollout.layers).parent)
        self._branches = Branches(rollout, self.run_dir)
        self._root = rollout if rollout.layers else self._branches.replayed() or rollout
        self.node = ""
        """Id of the branch that is looked at; empty: the attempt itself."""
        self.kinds: tuple[Kind, ...] | None = None
        self.words = ""
        self.drift: tuple[int, ...] = ()
        """Steps whose observation came out differently in a replay."""
        self.log: list[Typed] = []
        self.visible: list[int] = list(range(len(rollout.trajectory.steps)))
        self.cursor = self._inside(0 if step is None else step)
        self._subscribers: list[Callable[[str], None]] = []
        self._lock = threading.RLock()
        self._histories: dict[str, History] = {}
        self._layers: dict[str, list[Any]] = {}
        self._boxes = LiveBoxes(self._open_box, boxes)
        self._terminal: Terminal | None = None
        self._pool = ThreadPoolExecutor(3, thread_name_prefix="player")
        self._moves = 0
        self.closed = False

    # --- what is looked at ------------------------------------------------------------------------------------------

    @property
    def rollout(self) -> Rollout:
        """The attempt, or the branch, that is looked at."""
        return self.rollout_of(self.node)

    def rollout_of(self, node: str) -> Rollout:
        """Return the rollout of a branch; of the attempt itself for an empty id."""
        return self._branches[node].rollout if node else self._root

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of what is looked at."""
        return self.rollout.trajectory.steps

    @property
    def step(self) -> Step | None:
        """The step at the cursor; None at the start."""
        return self.steps[self.cursor] if 0 <= self.cursor < len(self.steps) else None

    def header(self) -> dict[str, str]:
        """Return the facts of what is looked at, in words."""
        return story.header(self.rollout)

    def kind(self, step: int) -> Kind:
        """Return the kind of a step."""
        return kind_of(self.steps[step])

    @property
    def history(self) -> History:
        """The files of what is looked at, at each step."""
        with self._lock:
            if self.node not in self._histories:
                self._histories[self.node] = History(self.rollout, self._snapshot())
            return self._histories[self.node]

    def _snapshot(self) -> Any:
        if self.sandboxes is None:
            return None
        try:
            return self.sandboxes.cache.get(self.rollout.task)
        except LabError:
            return None

    def changed(self, step: int | None = None) -> list[FileChange]:
        """Return the files that a step changed; the step at the cursor by default."""
        return self.history.changed(self.cursor if step is None else step)

    def diff(self, step: int | None = None, since_start: bool = False) -> str:
        """Return what a step changed, or what is different after it from the start, as a unified diff."""
        at = self.cursor if step is None else step
        if at < 0:
            return ""
        return self.history.diff_since_start(at) if since_start else self.history.diff(at)

    def tree(self, step: int | None = None) -> list[str]:
        """Return the paths of the repository's files after a step."""
        return self.history.tree(self.cursor if step is None else step)

    # --- moving -----------------------------------------------------------------------------------------------------

    def _inside(self, step: int) -> int:
        return max(START, min(step, len(self.steps) - 1))

    def goto(self, step: int) -> None:
        """Stand after a step (-1: before the first); its sandbox is opened in the background."""
        with self._lock:
            self.cursor = self._inside(step)
            self._moves += 1
            move = self._moves
        self._tell("cursor")
        if not self.dead and not self.closed:
            self._submit(self._warm, move)

    def move(self, by: int) -> None:
        """Go on by so many of the steps that the filter lets through."""
        with self._lock:
            ahead = [s for s in self.visible if s > self.cursor] if by > 0 else []
            behind = [s for s in reversed(self.visible) if s < self.cursor] if by < 0 else []
            reach = ahead[:by] or behind[:-by]
            target = reach[-1] if reach else self.cursor
        self.goto(target)

    def filter(self, kinds: Sequence[str] | None = None, words: str = "") -> list[int]:
        """Show only steps of these kinds that say `words`; returns their positions."""
        with self._lock:
            self.kinds = None if kinds is None else tuple(Kind(kind) for kind in kinds)
            self.words = words
            self.visible = story.matching(self.steps, self.kinds, words)
        self._tell("filter")
        return self.visible

    def select(self, node: str) -> None:
        """Look at a branch; at the attempt itself for an empty id.

        Raises:
            KeyError: There is no such branch.
        """
        self.rollout_of(node)
        with self._lock:
            self.node = node
            self.visible = story.matching(self.steps, self.kinds, self.words)
        self._tell("node")
        self.goto(self.cursor)

    @property
    def link(self) -> str:
        """Where this step is found again, in this kernel or another: `lab.Stepper(link, sandboxes)`."""
        t = self._root.trajectory
        return f"{self.run_dir}#{t.task_id}/{t.attempt}/{t.agent or '-'}/step-{self.cursor}"

    # --- alive ------------------------------------------------------------------------------------------------------

    @property
    def dead(self) -> str:
        """Why no sandbox can be entered; empty when one can."""
        if self.sandboxes is None:
            return "no SandboxFactory was given: lab.Stepper(rollout, sandboxes)"
        if self.steps and not (self.rollout.layers and all(step.layer for step in self.steps)):
            return "the layers of its steps were not kept: replay() executes them again and keeps them"
        return ""

    @property
    def ready(self) -> bool:
        """Whether the sandbox at the cursor is open."""
        return self._boxes.has((self.node, self.cursor))

    def live(self) -> LiveBox:
        """Return the live sandbox at the cursor, opening it if need be.

        Raises:
            SandboxError: There is none to enter; the message says why.
        """
        if self.dead:
            raise SandboxError(f"entering {self.rollout.task.id!r} at step {self.cursor}: {self.dead}")
        with self._lock:
            key = (self.node, self.cursor)
        found = self._boxes.take(key)
        self._tell("live")
        return found

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox at the cursor, in the state after its step; what is done to it stays until `reset`."""
        live = self.live()
        live.touched = True
        return live.box

    def run(self, command: str, timeout: float = 60.0) -> Result:
        """Run a command in the shell of the sandbox at the cursor; directory and variables stay."""
        live, node, step = self.live(), self.node, self.cursor
        live.touched = True
        result = live.session.run(command, timeout=timeout, max_output=1_000_000)
        ending = "timed out" if result.timed_out else f"hit the {result.limit} limit" if result.limit else ""
        ending = ending or (f"exit {result.exit_code}" if result.exit_code is not None else f"signal {result.signal}")
        self.log.append(Typed(node, step, command, result.output, ending, result.seconds))
        self._tell("log")
        return result

    def write(self, path: str, text: str) -> None:
        """Make or replace a file in the sandbox at the cursor."""
        live = self.live()
        live.touched = True
        live.box.write(path, text)
        self._tell("live")

    def read(self, path: str) -> str:
        """Return a file's text: from the sandbox at the cursor where it is open, else from the stored layers."""
        return self.live().box.read(path) if self.ready else self.history.read(path, self.cursor)

    def reset(self) -> None:
        """Throw away what a person did to the sandbox at the cursor."""
        self.close_terminal()
        self._boxes.drop((self.node, self.cursor))
        self.goto(self.cursor)

    def open_terminal(self, on_output: Callable[[bytes], None], rows: int = 24, columns: int = 80) -> Terminal:
        """Open a terminal into the sandbox at the cursor; it stays with that sandbox until it is closed.

        Raises:
            SandboxError: This kind of sandbox has none.
        """
        self.close_terminal()
        live = self.live()
        live.touched = True
        terminal = Terminal(live.box, on_output, live.session.cwd, rows, columns)
        live.pinned += 1
        with self._lock:
            self._terminal, self._terminal_box = terminal, live
        return terminal

    @property
    def terminal(self) -> Terminal | None:
        """The open terminal, if there is one."""
        return self._terminal

    def close_terminal(self) -> None:
        """Close the terminal, if one is open."""
        with self._lock:
            terminal, self._terminal = self._terminal, None
        if terminal is not None:
            terminal.close()
            self._terminal_box.pinned -= 1

    def _open_box(self, key: Key) -> Sandbox:
        node, step = key
        assert self.sandboxes is not None
        rollout = self.rollout_of(node)
        return self.sandboxes.open(rollout.task, layers=self.layers(node, step) if step >= 0 else ())

    def layers(self, node: str, step: int) -> list[Any]:
        """Return the unpacked layers of a branch up to a step, each unpacked once."""
        assert self.sandboxes is not None
        with self._lock:
            have = self._layers.setdefault(node, [])
            if step >= len(have):
                have[:] = self.sandboxes.step_layers(self.rollout_of(node), step, have)
            return have[: step + 1]

    def _warm(self, move: int) -> None:
        """Open the box at the cursor, then those beside it, unless the cursor has moved on."""
        node, at = self.node, self.cursor
        for step in (at, at + 1, at - 1):
            if move != self._moves or self.closed:
                return
            if START <= step < len(self.steps):
                with suppress(LabError):  # whoever asks for that box is told
                    self._boxes.take((node, step))
            if step == at:
                self._tell("live")

    # --- replaying --------------------------------------------------------------------------------------------------

    def replay(self) -> tuple[int, ...]:
        """Execute the recorded calls again in a fresh sandbox and keep each step's layer, so that it can be entered.

        The record stays as it was; only the files are those of the replay.

        Returns:
            The steps whose observation came out differently now; see `drift`.

        Raises:
            SandboxError: There is no SandboxFactory, or the sandbox failed.
        """
        if self.sandboxes is None:
            raise SandboxError(f"replaying {self._root.task.id!r}: {self.dead}")
        self._root, self.drift = growing.replay(self._root, self.sandboxes, self._branches.home)
        with self._lock:
            self._histories.pop("", None)
            self._layers.pop("", None)
        self._tell("node")
        self.goto(self.cursor)
        return self.drift

    # --- branching --------------------------------------------------------------------------------------------------

    @property
    def branches(self) -> list[Branch]:
        """All branches of the attempt, in the order in which they were made; also those of earlier kernels."""
        return self._branches.all()

    def branch(
        self,
        policy: Policy | Agent | None = None,
        hint: str = "",
        n: int = 1,
        *,
        step: int | None = None,
        grade: bool = True,
    ) -> Rollouts:
        """Let a policy go on from a step, `n` times, and keep each as a rollout.

        Up to the step a branch's history is the original's, token for token; a hint is added to what the policy saw last.
        If a person changed the sandbox at the step, branches start from it as it is now.

        Args:
            policy: Who goes on: a policy, which gets the attempt's flavour, or an agent; None: this model's agent.
            hint: What to tell it.
            n: How many branches, at once.
            step: From which step; None: the one at the cursor; -1: from the start.
            grade: Whether each is graded, in a fresh sandbox.

        Returns:
            The branches' rollouts.

        Raises:
            SandboxError: The step cannot be entered.
            PolicyError: Nobody is there to go on.
            ValueError: The attempt was handed in at that step.
        """
        if self.dead or self.sandboxes is None:
            raise SandboxError(f"branching {self.rollout.task.id!r}: {self.dead}")
        with self._lock:
            node, at = self.node, self.cursor if step is None else self._inside(step)
        agent = self._agent(policy)
        beginning = growing.beginning(self.rollout_of(node), at, hint)
        start = growing.Start(
            node, at, hint, beginning, self.layers(node, at) if at >= 0 else [], *self._edit(node, at)
        )
        judge = self.evaluator if grade else None
        numbers = [self._branches.number(taken) for taken in range(max(1, n))]
        self._branches.keep_layers_of(beginning, self.rollout_of(node).layers)
        with ThreadPoolExecutor(min(len(numbers), 4), "branch") as pool:
            grown = [
                pool.submit(growing.grow, start, self._root.task, agent, self.sandboxes, self._branches, judge, number)
                for number in numbers
            ]
            made = [future.result() for future in grown]
        self._tell("branches")
        return Rollouts((branch.rollout for branch in made), f"branches of step {at}")

    def _edit(self, node: str, step: int) -> tuple[Any, tuple[str, ...]]:
        """What a person changed in the box of a step, as a layer on top of the step's."""
        if not self._boxes.has((node, step)) or not (live := self._boxes.take((node, step))).touched:
            return None, ()
        layer = live.box.checkpoint()
        paths = tuple(path for kind, path in layer.entries if kind != "dir")
        return (layer, paths) if paths else (None, ())

    def _agent(self, policy: Policy | Agent | None) -> Agent:
        from swebench_lab.agents.agent import Agent

        if isinstance(policy, Agent):
            return policy
        if self.agent is not None:
            return self.agent if policy is None else self.agent.using(policy)
        if policy is None:
            raise PolicyError("branching: nobody is there to go on; give branch(policy=…), or Stepper(…, agent=…)")
        try:
            return Agent(policy, self._root.trajectory.flavour or "xml")
        except ValueError as error:  # prompts of somebody's own, or of another program's file
            raise PolicyError(
                f"branching: {error}; give Stepper(…, agent=…), whose prompts and tools they are"
            ) from error

    @property
    def evaluator(self) -> Evaluator:
        """What grades."""
        if self._evaluator is None:
            from swebench_lab.grading.evaluator import Evaluator

            assert self.sandboxes is not None
            self._evaluator = Evaluator(self.sandboxes)
        return self._evaluator

    def grade(self, node: str | None = None) -> Rollout:
        """Grade a branch, or the attempt itself, in a fresh sandbox, and keep the verdict of a branch.

        Raises:
            SandboxError: There is no SandboxFactory.
        """
        name = self.node if node is None else node
        if self.sandboxes is None:
            raise SandboxError(f"grading {self._root.task.id!r}: {self.dead}")
        graded = growing.graded(self.rollout_of(name), self.evaluator)
        if name:
            self._branches.update(name, graded)
        else:
            self._root = graded
        self._tell("branches")
        return graded

    # --- telling and ending -----------------------------------------------------------------------------------------

    def subscribe(self, told: Callable[[str], None]) -> Callable[[], None]:
        """Have `told` called with the name of what changed; returns a function that ends it."""
        self._subscribers.append(told)
        return lambda: self._subscribers.remove(told) if told in self._subscribers else None

    def _tell(self, what: str) -> None:
        for told in list(self._subscribers):
            told(what)

    def _submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any] | None:
        try:
            return self._pool.submit(work, *arguments)
        except RuntimeError:  # closed meanwhile
            return None

    def close(self) -> None:
        """Close its sandboxes; branches stay in the run directory."""
        self.closed = True
        self.close_terminal()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._boxes.close()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return one line: the attempt, where it stands, and whether it is alive."""
        t = self.rollout.trajectory
        state = "closed" if self.closed else self.dead or "alive"
        return f"PlayerModel({t.task_id!r}, attempt {t.attempt}, step {self.cursor} of {len(t.steps)}, {state})"

"""PlayerModel: one attempt, step by step, with its files at each step and live sandboxes to branch from; no view."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from swebench_lab.errors import LabError, SandboxError
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.step_kind import Kind, kind_of
from swebench_lab.viewer import story
from swebench_lab.viewer.player import branching
from swebench_lab.viewer.player.branches import Branch, Branches
from swebench_lab.viewer.player.file_history import FileChange, FileHistory
from swebench_lab.viewer.player.live_boxes import Key, LiveBox, LiveBoxes
from swebench_lab.viewer.player.manual_command import ManualCommand
from swebench_lab.viewer.player.terminal import Terminal

if TYPE_CHECKING:
    from swebench_lab.agents.external.cli_agent import AnyAgent
    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.policies.policy import Policy
    from swebench_lab.records.step import Step
    from swebench_lab.sandbox.contract import Result, Sandbox
    from swebench_lab.snapshots.factory import SandboxFactory

START = -1
"""The position before the first step: the tree the attempt started from."""


class PlayerModel:
    """One attempt, step by step.

    All methods may be called from any thread; those that open sandboxes or run commands block without holding a lock.
    Subscribers receive the name of what changed: `cursor`, `filter`, `live`, `log`, `node`, `branches`.

    Args:
        rollout: The attempt.
        sandboxes: Opens live sandboxes of its steps; None: it can only be viewed.
        agent: Agent of branches, unless `branch` is given another.
        evaluator: Grades branches; None: an `Evaluator` over `sandboxes`.
        step: Step to start at; None: the first.
        run_dir: Where branches are stored; None: the run directory of the attempt, or a temporary folder that is removed
            with this object.
        boxes: Most sandboxes open at the same time.
    """

    def __init__(
        self,
        rollout: Rollout,
        sandboxes: SandboxFactory | None = None,
        *,
        agent: AnyAgent | None = None,
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
        """Id of the selected branch; empty: the attempt itself."""
        self.kinds: tuple[Kind, ...] | None = None
        self.words = ""
        self.drift: tuple[int, ...] = ()
        """Steps whose observation differed in a replay."""
        self.log: list[ManualCommand] = []
        self.visible: list[int] = list(range(len(rollout.trajectory.steps)))
        self.cursor = self._inside(0 if step is None else step)
        self._subscribers: list[Callable[[str], None]] = []
        self._lock = threading.RLock()
        self._histories: dict[str, FileHistory] = {}
        self._layers: dict[str, list[Any]] = {}
        self._boxes = LiveBoxes(self._open_box, boxes)
        self._terminal: Terminal | None = None
        self._pool = ThreadPoolExecutor(3, thread_name_prefix="player")
        self._moves = 0
        self.closed = False

    # --- the selected attempt ------------------------------------------------------------------------------------------

    @property
    def rollout(self) -> Rollout:
        """The selected attempt or branch."""
        return self.rollout_of(self.node)

    def rollout_of(self, node: str) -> Rollout:
        """Return the rollout of a branch; of the attempt itself for an empty id."""
        return self._branches[node].rollout if node else self._root

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the selected attempt or branch."""
        return self.rollout.trajectory.steps

    @property
    def step(self) -> Step | None:
        """The step at the cursor; None at the start."""
        return self.steps[self.cursor] if 0 <= self.cursor < len(self.steps) else None

    def header(self) -> dict[str, str]:
        """Return the facts of the selected attempt or branch, in words."""
        return story.header(self.rollout)

    def kind(self, step: int) -> Kind:
        """Return the kind of a step."""
        return kind_of(self.steps[step])

    @property
    def history(self) -> FileHistory:
        """The files of the selected attempt or branch, at each step."""
        with self._lock:
            if self.node not in self._histories:
                self._histories[self.node] = FileHistory(self.rollout, self._snapshot())
            return self._histories[self.node]

    def _snapshot(self) -> Any:
        if self.sandboxes is None:
            return None
        try:
            return self.sandboxes.cache.get(self.rollout.task)
        except LabError:
            return None

    def changed_files(self, step: int | None = None) -> list[FileChange]:
        """Return the files that a step changed; the step at the cursor by default."""
        return self.history.changes_of(self.cursor if step is None else step)

    def diff(self, step: int | None = None, since_start: bool = False) -> str:
        """Return what a step changed, or all changes since the start, as a unified diff."""
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
        """Go to a step (-1: before the first); its sandbox is opened in the background."""
        with self._lock:
            self.cursor = self._inside(step)
            self._moves += 1
            move = self._moves
        self._notify("cursor")
        if not self.unavailable and not self.closed:
            self._submit(self._warm, move)

    def move(self, by: int) -> None:
        """Move by this many of the visible steps."""
        with self._lock:
            ahead = [s for s in self.visible if s > self.cursor] if by > 0 else []
            behind = [s for s in reversed(self.visible) if s < self.cursor] if by < 0 else []
            reach = ahead[:by] or behind[:-by]
            target = reach[-1] if reach else self.cursor
        self.goto(target)

    def filter(self, kinds: Sequence[str] | None = None, words: str = "") -> list[int]:
        """Show only steps of these kinds that contain `words`; returns their positions."""
        with self._lock:
            self.kinds = None if kinds is None else tuple(Kind(kind) for kind in kinds)
            self.words = words
            self.visible = story.matching(self.steps, self.kinds, words)
        self._notify("filter")
        return self.visible

    def select(self, node: str) -> None:
        """Select a branch; the attempt itself for an empty id.

        Raises:
            KeyError: There is no such branch.
        """
        self.rollout_of(node)
        with self._lock:
            self.node = node
            self.visible = story.matching(self.steps, self.kinds, self.words)
        self._notify("node")
        self.goto(self.cursor)

    @property
    def link(self) -> str:
        """A link to this step that works in any kernel: `lab.Stepper(link, sandboxes)`."""
        t = self._root.trajectory
        return f"{self.run_dir}#{t.task_id}/{t.attempt}/{t.agent or '-'}/step-{self.cursor}"

    # --- the live sandbox ------------------------------------------------------------------------------------------------------

    @property
    def unavailable(self) -> str:
        """Why no live sandbox can be opened; empty when one can."""
        if self.sandboxes is None:
            return "no SandboxFactory was given: lab.Stepper(rollout, sandboxes)"
        if self.steps and not (self.rollout.layers and all(step.layer for step in self.steps)):
            return "the layers of its steps were not kept; replay() executes the steps again and keeps them"
        return ""

    @property
    def ready(self) -> bool:
        """Whether the sandbox at the cursor is open."""
        return self._boxes.has((self.node, self.cursor))

    def live(self) -> LiveBox:
        """Return the live sandbox at the cursor, opening it if need be.

        Raises:
            SandboxError: No live sandbox can be opened; the message says why.
        """
        if self.unavailable:
            raise SandboxError(f"entering {self.rollout.task.id!r} at step {self.cursor}: {self.unavailable}")
        with self._lock:
            key = (self.node, self.cursor)
        live = self._boxes.take(key)
        self._notify("live")
        return live

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox at the cursor, in the state after its step; changes to it stay until `reset`."""
        live = self.live()
        live.touched = True
        return live.box

    def run(self, command: str, timeout: float = 60.0) -> Result:
        """Run a command in the shell of the sandbox at the cursor; directory and variables stay."""
        live, node, step = self.live(), self.node, self.cursor
        live.touched = True
        result = live.session.run(command, timeout=timeout, max_output=1_000_000)
        self.log.append(ManualCommand.of(node, step, command, result))
        self._notify("log")
        return result

    def write(self, path: str, text: str) -> None:
        """Create or replace a file in the sandbox at the cursor."""
        live = self.live()
        live.touched = True
        live.box.write(path, text)
        self._notify("live")

    def read(self, path: str) -> str:
        """Return a file's text: from the sandbox at the cursor where it is open, else from the stored layers."""
        return self.live().box.read(path) if self.ready else self.history.read(path, self.cursor)

    def reset(self) -> None:
        """Discard all changes made by hand to the sandbox at the cursor."""
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
            unpacked = self._layers.setdefault(node, [])
            if step >= len(unpacked):
                unpacked[:] = self.sandboxes.step_layers(self.rollout_of(node), step, unpacked)
            return unpacked[: step + 1]

    def _warm(self, move: int) -> None:
        """Open the box at the cursor, then those beside it, unless the cursor has moved on."""
        node, at = self.node, self.cursor
        for step in (at, at + 1, at - 1):
            if move != self._moves or self.closed:
                return
            if START <= step < len(self.steps):
                with suppress(LabError):  # whoever opens that box gets the error
                    self._boxes.take((node, step))
            if step == at:
                self._notify("live")

    # --- replaying --------------------------------------------------------------------------------------------------

    def replay(self) -> tuple[int, ...]:
        """Execute the recorded calls again in a fresh sandbox and keep each step's layer, so that it can be entered.

        The record is unchanged; only the files are those of the replay.

        Returns:
            The steps whose observation differs now; see `drift`.

        Raises:
            SandboxError: There is no SandboxFactory, or the sandbox failed.
        """
        if self.sandboxes is None:
            raise SandboxError(f"replaying {self._root.task.id!r}: {self.unavailable}")
        self._root, self.drift = branching.replay(self._root, self.sandboxes, self._branches.home)
        with self._lock:
            self._histories.pop("", None)
            self._layers.pop("", None)
        self._notify("node")
        self.goto(self.cursor)
        return self.drift

    # --- branching --------------------------------------------------------------------------------------------------

    @property
    def branches(self) -> list[Branch]:
        """All branches of the attempt, oldest first, including those of earlier kernels."""
        return self._branches.all()

    def branch(
        self,
        policy: Policy | AnyAgent | None = None,
        hint: str = "",
        n: int = 1,
        *,
        step: int | None = None,
        grade: bool = True,
    ) -> Rollouts:
        """Let a policy continue from a step, `n` times, and store each branch as a rollout.

        Up to the step a branch's history is the original's, token for token; a hint is appended to the last observation.
        If the sandbox at the step was changed by hand, branches start from its current state.

        Args:
            policy: A policy, which gets the attempt's flavour, or an agent; None: this model's agent.
            hint: Text appended to the last observation.
            n: Number of branches, run in parallel.
            step: The step to branch from; None: the one at the cursor; -1: from the start.
            grade: Whether each is graded, in a fresh sandbox.

        Returns:
            The branches' rollouts.

        Raises:
            SandboxError: No live sandbox of the step can be opened.
            PolicyError: There is no agent.
            ValueError: The attempt was submitted at that step.
        """
        if self.unavailable or self.sandboxes is None:
            raise SandboxError(f"branching {self.rollout.task.id!r}: {self.unavailable}")
        with self._lock:
            node, at = self.node, self.cursor if step is None else self._inside(step)
        agent = branching.agent_of(policy, self.agent, self._root.trajectory.flavour or "xml")
        beginning = branching.beginning(self.rollout_of(node), at, hint)
        start = branching.BranchStart(
            node, at, hint, beginning, self.layers(node, at) if at >= 0 else [], *self._edit(node, at)
        )
        judge = self.evaluator if grade else None
        numbers = [self._branches.number(offset) for offset in range(max(1, n))]
        self._branches.keep_layers_of(beginning, self.rollout_of(node).layers)
        with ThreadPoolExecutor(min(len(numbers), 4), "branch") as pool:
            futures = [
                pool.submit(
                    branching.grow, start, self._root.task, agent, self.sandboxes, self._branches, judge, number
                )
                for number in numbers
            ]
            branches = [future.result() for future in futures]
        self._notify("branches")
        return Rollouts((branch.rollout for branch in branches), f"branches of step {at}")

    def _edit(self, node: str, step: int) -> tuple[Any, tuple[str, ...]]:
        """Changes made by hand to the box of a step, as a layer on top of the step's."""
        if not self._boxes.has((node, step)) or not (live := self._boxes.take((node, step))).touched:
            return None, ()
        layer = live.box.checkpoint()
        paths = tuple(path for kind, path in layer.entries if kind != "dir")
        return (layer, paths) if paths else (None, ())

    @property
    def evaluator(self) -> Evaluator:
        """The evaluator that grades branches."""
        if self._evaluator is None:
            from swebench_lab.grading.evaluator import Evaluator

            assert self.sandboxes is not None
            self._evaluator = Evaluator(self.sandboxes)
        return self._evaluator

    def grade(self, node: str | None = None) -> Rollout:
        """Grade a branch, or the attempt itself, in a fresh sandbox, and store the verdict of a branch.

        Raises:
            SandboxError: There is no SandboxFactory.
        """
        name = self.node if node is None else node
        if self.sandboxes is None:
            raise SandboxError(f"grading {self._root.task.id!r}: {self.unavailable}")
        graded = branching.graded(self.rollout_of(name), self.evaluator)
        if name:
            self._branches.update(name, graded)
        else:
            self._root = graded
        self._notify("branches")
        return graded

    # --- subscribers and closing -----------------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback` with the name of what changed, from now on; returns a function that ends this."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback) if callback in self._subscribers else None

    def _notify(self, what: str) -> None:
        for callback in list(self._subscribers):
            callback(what)

    def _submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any] | None:
        try:
            return self._pool.submit(work, *arguments)
        except RuntimeError:  # closed in the meantime
            return None

    def close(self) -> None:
        """Close the sandboxes; branches stay in the run directory."""
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
        """Return one line: the attempt, the current step, and whether live sandboxes can be opened."""
        t = self.rollout.trajectory
        state = "closed" if self.closed else self.unavailable or "live"
        return f"PlayerModel({t.task_id!r}, attempt {t.attempt}, step {self.cursor} of {len(t.steps)}, {state})"

"""Stepper: the player in a notebook; it shows the richest view that the page supports, and the reason for a simpler one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from swebench_lab import _html
from swebench_lab._files import write_text
from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import NOT_GRADED, Verdict
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.viewer.player import markup
from swebench_lab.viewer.player.model import PlayerModel

if TYPE_CHECKING:
    from swebench_lab.agents.external.cli_agent import AnyAgent
    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.policies.policy import Policy
    from swebench_lab.records.rollout import Rollouts
    from swebench_lab.records.task import Task
    from swebench_lab.snapshots.factory import SandboxFactory

VIEWS = ("auto", "full", "simple", "static")
_WIDGET = "application/vnd.jupyter.widget-view+json"


class Stepper:
    """Walk through an attempt in a live sandbox, and branch anywhere.

    As the last line of a cell it is displayed; `?` lists its keys. Everything it does is also available in code:
    `stepper.goto(7)`, `stepper.run("pytest -q")`, `stepper.branch(policy, hint="…", n=4)`; see `PlayerModel`, which is
    `stepper.model`.

    Args:
        rollout: An attempt; a Trajectory, with its `task`; or the link of another Stepper.
        sandboxes: Opens live sandboxes of its steps; None: it can only be viewed.
        task: The task of a Trajectory.
        agent: Agent of branches, unless another is given.
        policies: Policies to choose from for branches, by name.
        evaluator: Grades branches.
        step: Step to start at; -1 is the start, before the first step.
        run_dir: Where branches are stored; None: with the attempt.
        view: `"auto"`; or `"full"` (needs the anywidget extension), `"simple"` (ordinary widgets), `"static"` (HTML).
        patience: Seconds to wait for the full view before the simple one replaces it.

    Raises:
        RecordError: A link leads nowhere, or a Trajectory comes without its task.
        ValueError: The view is unknown.
    """

    def __init__(
        self,
        rollout: Rollout | Trajectory | str,
        sandboxes: SandboxFactory | None = None,
        *,
        task: Task | None = None,
        agent: AnyAgent | None = None,
        policies: Mapping[str, Policy] | None = None,
        evaluator: Evaluator | None = None,
        step: int | None = None,
        run_dir: str | Path | None = None,
        view: str = "auto",
        patience: float = 5.0,
    ) -> None:
        if view not in VIEWS:
            raise ValueError(f"Stepper(view={view!r}): known views are {', '.join(map(repr, VIEWS))}")
        if isinstance(rollout, str):
            rollout, position = follow(rollout)
            step = position if step is None else step
        elif isinstance(rollout, Trajectory):
            rollout = _bare_rollout(rollout, task)
        self.model = PlayerModel(rollout, sandboxes, agent=agent, evaluator=evaluator, step=step, run_dir=run_dir)
        self.policies: dict[str, Any] = {agent.policy.name: agent.policy} if agent else {}
        self.policies |= dict(policies or {})
        self.reason = ""
        """Why the full view is not shown; empty when it is."""
        self._view, self._patience = view, patience
        self._reply_event = threading.Event()
        self._full: Any = None
        self._simple: Any = None
        self._handle: Any = None

    # --- views ------------------------------------------------------------------------------------------------------

    def full(self) -> Any:
        """Return the full view: a widget.

        Raises:
            ImportError: anywidget is not installed.
        """
        if self._full is None:
            from swebench_lab.viewer.player.full import FullView

            self._full = FullView(self.model, self.policies, self._ready)
        return self._full

    def simple(self, reason: str = "") -> Any:
        """Return the view of ordinary widgets.

        Raises:
            ImportError: ipywidgets is not installed.
        """
        if self._simple is None:
            from swebench_lab.viewer.player.simple import SimpleView

            self._simple = SimpleView(self.model, self.policies, reason)
        return self._simple.widget

    @overload
    def to_html(self, path: None = None) -> str: ...
    @overload
    def to_html(self, path: str | Path) -> Path: ...
    def to_html(self, path: str | Path | None = None) -> str | Path:
        """Return the attempt with the changes of each step as one page; with a path, write it there and return the path."""
        from swebench_lab.viewer.page import page

        model = self.model
        html = page(model.rollout, [model.diff(number) for number in range(len(model.steps))])
        return html if path is None else write_text(path, html)

    def _choose(self) -> tuple[str, Any]:
        """Return the name of the richest view available here, and its widget."""
        makers = {"auto": ("full", "simple"), "full": ("full",), "simple": ("simple",), "static": ()}
        for name in makers[self._view]:
            try:
                return name, self.full() if name == "full" else self.simple(self.reason)
            except ImportError as error:
                package = "anywidget" if name == "full" else "ipywidgets"
                self.reason = f"{package} is not installed where this kernel runs (pip install {package}): {error}"
        return "static", None

    def _bundle(self, widget: Any) -> dict[str, Any]:
        """Return all forms at once: a page draws the richest that it supports."""
        note = f"<p><i>{_html.text(self.reason)}</i></p>" if self.reason else ""
        forms: dict[str, Any] = {"text/plain": repr(self), "text/html": note + markup.fragment(self.model)}
        if widget is not None:
            forms[_WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
        return forms

    def _ipython_display_(self) -> None:
        from IPython import get_ipython
        from IPython.display import display

        name, widget = self._choose()
        self._handle = display(self._bundle(widget), raw=True, display_id=True)
        kernel = getattr(get_ipython(), "kernel", None)
        if name == "full" and self._view == "auto" and kernel is not None:
            self._reply_event.clear()
            timer = threading.Timer(self._patience, self._degrade)
            timer.daemon = True
            timer.start()

    def _ready(self) -> None:
        """The page has drawn the full view; it comes back if the simple one had taken its place meanwhile."""
        self._reply_event.set()
        if self.reason and self._handle is not None:
            self.reason = ""
            self._handle.update(self._bundle(self._full), raw=True)

    def _degrade(self) -> None:
        """Show the simple view in place of the full one, which the page did not draw."""
        if self._reply_event.is_set() or self.model.closed:
            return
        self.reason = (
            f"The page did not draw the full view within {self._patience:g} s: it may lack the anywidget extension (install "
            "anywidget where the Jupyter server runs, and reload the page), or a long cell is running. This is the simple "
            "view; Stepper(…, view='full') asks for the full one again."
        )
        try:
            widget = self.simple(self.reason)
        except ImportError:
            widget = None
        self._handle.update(self._bundle(widget), raw=True)

    def _repr_html_(self) -> str:
        return markup.fragment(self.model)

    # --- in code ----------------------------------------------------------------------------------------------------

    def goto(self, step: int) -> None:
        """Stand after a step; -1: before the first."""
        self.model.goto(step)

    def run(self, command: str, timeout: float = 60.0) -> Any:
        """Run a command in the sandbox of this step."""
        return self.model.run(command, timeout)

    def branch(self, policy: Any = None, hint: str = "", n: int = 1, **more: Any) -> Rollouts:
        """Let a policy go on from this step; see `PlayerModel.branch`."""
        return self.model.branch(policy, hint, n, **more)

    @property
    def sandbox(self) -> Any:
        """The live sandbox of this step."""
        return self.model.sandbox

    @property
    def link(self) -> str:
        """Where this step is found again: `lab.Stepper(link, sandboxes)`."""
        return self.model.link

    def close(self) -> None:
        """Close its sandboxes."""
        for view in (self._full, self._simple):
            if view is not None:
                view.stop()
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return one line: the attempt and where it stands."""
        return repr(self.model).replace("PlayerModel", "Stepper", 1)


def follow(link: str) -> tuple[Rollout, int | None]:
    """Return the attempt and the step that a link names: `run_dir#task/attempt/agent/step-7`.

    Raises:
        RecordError: It leads nowhere.
    """
    folder, mark, place = link.rpartition("#")
    parts = place.rsplit("/", 3)
    if not mark or len(parts) != 4 or not parts[3].removeprefix("step-").lstrip("-").isdigit():
        raise RecordError(f"following the link {link!r}: expected run_dir#task/attempt/agent/step-7")
    task, attempt, agent, step = parts
    for rollout in RunDirectory(folder, create=False).rollouts().filter(task=task):
        t = rollout.trajectory
        if str(t.attempt) == attempt and agent in ("-", t.agent):
            return rollout, int(step.removeprefix("step-"))
    raise RecordError(f"following the link {link!r}: {folder} holds no attempt {attempt} at {task!r} of that agent")


def _bare_rollout(trajectory: Trajectory, task: Task | None) -> Rollout:
    if task is None:
        raise RecordError(
            f"Stepper of a Trajectory at {trajectory.task_id!r}: give its task, Stepper(trajectory, task=…)"
        )
    return Rollout(task, trajectory, Verdict(NOT_GRADED, "a recorded trace; grade() grades its patch"))

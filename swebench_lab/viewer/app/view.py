"""View: the runs below a folder to look at, in a notebook, in a browser, or as a folder of pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from swebench_lab import _html
from swebench_lab.viewer.app.answers import Answers
from swebench_lab.viewer.app.bundle import write_bundle
from swebench_lab.viewer.app.catalogue import Catalogue
from swebench_lab.viewer.app.reentry import Reentry

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.agents.external.cli_agent import AnyAgent
    from swebench_lab.policies.policy import Policy
    from swebench_lab.snapshots.factory import SandboxFactory
    from swebench_lab.viewer.app.server import ViewServer

_WIDGET = "application/vnd.jupyter.widget-view+json"


class View:
    """Runs → attempts → steps: sort, filter and search every attempt, compare agents, follow what is running.

    The last line of a cell shows it; `serve` shows the same in a browser, as `swebench-lab view` does. Runs are only read,
    unless notes or sandboxes are given. An index of the attempts, words included, is kept in the cache folder and keeps up
    while attempts arrive.

    Args:
        runs: A run directory, or a folder with run directories below it.
        notes: Whether notes and tags may be written; they are kept in `notes.jsonl` beside each run.
        sandboxes: Opens live sandboxes of steps, so that they can be entered: commands, a terminal, branches and grading as in
            `Stepper`. Branches are stored in the run's folder `branches`.
        agent: Agent of branches, unless another is chosen.
        policies: Policies to choose from for branches, by name, beside the recorded replies, the gold patch and submitting.
        index: File of the index; None: in the cache folder.

    Raises:
        RecordError: There is no such folder, or the index cannot be written.
    """

    def __init__(
        self,
        runs: str | Path = "runs",
        *,
        notes: bool = False,
        sandboxes: SandboxFactory | None = None,
        agent: AnyAgent | None = None,
        policies: Mapping[str, Policy] | None = None,
        index: str | Path | None = None,
    ) -> None:
        self.catalogue = Catalogue(runs, index)
        reentry = Reentry(self.catalogue, sandboxes, agent, policies) if sandboxes is not None else None
        self.answers = Answers(self.catalogue, notes, reentry)
        self.catalogue.refresh()
        self.catalogue.start()
        self._widget: Any = None
        self._servers: list[ViewServer] = []

    @property
    def frame(self) -> pl.DataFrame:
        """One row an attempt: the columns of the table, with advantage, tags and note."""
        import polars as pl

        from swebench_lab.viewer.app.schema import COLUMNS

        self.catalogue.refresh()
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        return pl.DataFrame(self.catalogue.ask(f"SELECT {names} FROM attempts ORDER BY place"), schema=dict(COLUMNS))

    def serve(self, port: int = 0, base_url: str = "/", token: str | None = None) -> ViewServer:
        """Serve the viewer on the loopback, in the background; its `url` opens it.

        Args:
            port: The port on 127.0.0.1; 0: any that is free.
            base_url: Path under which a proxy shows it, such as `/user/ada/proxy/8765/`.
            token: What a browser has to know; None: a new one.

        Raises:
            ConfigError: The port is taken.
        """
        from swebench_lab.viewer.app.server import ViewServer

        server = ViewServer(self.answers, port, base_url, token)
        server.start()
        self._servers.append(server)
        return server

    def bundle(self, folder: str | Path) -> Path:
        """Write the viewer as static files that any web server shows; returns the path of `index.html`.

        Args:
            folder: Target folder, made if it is missing.

        Raises:
            RecordError: There is no attempt, or the folder cannot be written.
        """
        return write_bundle(self.answers, folder)

    def close(self) -> None:
        """End its servers, its players and its index."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._widget is not None:
            self._widget.stop()
        if self.answers.reentry is not None:
            self.answers.reentry.close()
        self.catalogue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- showing ----------------------------------------------------------------------------------------------------

    def _counts(self) -> list[dict[str, Any]]:
        return self.catalogue.ask(
            "SELECT run, count(*) AS attempts, count(DISTINCT task) AS tasks, sum(verdict = 'resolved') AS resolved, "
            "sum(verdict = 'not graded') AS not_graded FROM attempts GROUP BY run ORDER BY run"
        )

    def __repr__(self) -> str:
        """Return one line: the folder, its runs and attempts."""
        counts = self._counts()
        return (
            f"View({str(self.catalogue.root)!r}, {len(counts)} runs, {sum(row['attempts'] for row in counts)} attempts)"
        )

    def _repr_html_(self) -> str:
        columns = ["run", "attempts", "tasks", "resolved", "not_graded"]
        rows = [[row[name] for name in columns] for row in self._counts()]
        note = _html.note(
            "To look into them, run this cell again in a notebook that has the anywidget extension, or open .serve().url in a "
            "browser."
        )
        return _html.card(repr(self), _html.table([name.replace("_", " ") for name in columns], rows) + note)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Return all forms at once: a page draws the richest that it supports."""
        table = self._repr_html_()
        forms: dict[str, Any] = {"text/plain": repr(self), "text/html": table}
        try:
            from swebench_lab.viewer.app.widget import ViewWidget
        except ImportError:
            return forms  # without anywidget: the table says how to open it
        if self._widget is None:
            self._widget = ViewWidget(self.answers, saved=table)
        return {**forms, _WIDGET: {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}}

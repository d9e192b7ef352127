"""The command line of the benchmarks."""

from __future__ import annotations

import hashlib
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

import swebench_lab
from tests.benchmarks import NAMES, run
from tests.benchmarks.draw import PANELS, draw, overview
from tests.benchmarks.report import Measured, Report, machine

_TELLING = ("__main__", "draw", "report")
_BY_HAND = "<!-- from here on by hand -->\n"
_HEAD = """\
# Benchmarks

Written by `make bench`. Ratios and counts gate, milliseconds are only reported; gates that do not hold are shown too.

![Medians, shorter is better](benchmarks.png)
"""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option(
    "--reps", type=click.IntRange(1), help="Repetitions of everything; by default each benchmark's own number."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/benchmarks"), show_default=True,
              help="Folder for results.json, results.md, summary.md and one figure for each benchmark.")  # fmt: skip
@click.option(
    "--docs", type=click.Path(path_type=Path), help="Folder for benchmarks.md and benchmarks.png, to publish."
)
@click.option("--quick", is_flag=True, help="Small numbers and no network: shows that everything runs, no more.")
@click.option("--tell", is_flag=True, help="Measure nothing; tell what is kept.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keeps environments between runs.")
@click.option("--patience", type=float, default=900.0, show_default=True,
              help="Seconds that one batch of a slow way may be expected to take; a longer one is left out.")  # fmt: skip
@click.option("--swe-rex", type=click.Path(path_type=Path), help="Interpreter of an environment with swe-rex.")
def main(
    names: tuple[str, ...],
    reps: int | None,
    out: Path,
    docs: Path | None,
    quick: bool,
    tell: bool,
    cache: Path | None,
    swe_rex: Path | None,
    patience: float,
) -> None:
    """Measure sandboxes and collections against other ways to do the same.

    Each benchmark is kept as it ends: without NAMES, those that the folder does not hold yet for this very code are
    measured; with NAMES, these are, anew. What is kept is told together. Ends with exit code 1 when a gate does not
    hold.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    report = Report(quick)
    out.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        part = None if name in names else kept(out / f"{name}.json", _code(), quick)
        if part is None and not tell and (not names or name in names):
            measured = Measured(_now(), machine()["load"], _code())
            part = run((name,), reps=reps, quick=quick, cache=cache, swe_rex=swe_rex, patience=patience)
            part.measured[name] = measured
            (out / f"{name}.json").write_text(part.to_json())
        if part is not None:
            report.merge(part)
            _write(report, name, out)  # after each one, so that what was measured is there whatever comes
    if docs:
        publish(report, docs)
    click.echo(report.to_markdown())
    click.echo(f"written to {out}/")
    if any(gate.holds is False for gate in report.gates):
        raise SystemExit(1)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _code() -> str:
    """Return what tells this code from any other that measures or is measured; telling the results is no part of it."""
    digest = hashlib.sha256()
    for folder in (Path(swebench_lab.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            if file.parent != Path(__file__).parent or file.stem not in _TELLING:
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def kept(file: Path, code: str, quick: bool) -> Report | None:
    """Return the report of a benchmark that was measured before, if it was of this code."""
    if not file.exists():
        return None
    report = Report.from_json(file.read_text())
    same = report.quick == quick and all(measured.code == code for measured in report.measured.values())
    return report if same else None


def publish(report: Report, docs: Path) -> None:
    """Write the page and the figure that the README refers to; sections of the page that were written by hand stay.

    Args:
        report: Of one run.
        docs: The folder; made if it does not exist.
    """
    docs.mkdir(parents=True, exist_ok=True)
    page = docs / "benchmarks.md"
    by_hand = page.read_text().partition(_BY_HAND) if page.exists() else ("", "", "")
    page.write_text(f"{_HEAD}\n{report.to_markdown()}" + (f"\n{_BY_HAND}{by_hand[2]}" if by_hand[1] else ""))
    if figure := overview(report):
        figure.savefig(docs / "benchmarks.png", dpi=110)


def _write(report: Report, name: str, out: Path) -> None:
    """Write all that is known, and the figure of the benchmark that has just ended."""
    (out / "results.json").write_text(report.to_json())
    (out / "results.md").write_text(report.to_markdown())
    (out / "summary.md").write_text(report.to_markdown(PANELS))
    if figure := draw(report, name):
        figure.savefig(out / f"{name}.png", dpi=130)


if __name__ == "__main__":
    main()

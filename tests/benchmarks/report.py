"""What benchmarks found: rows of measures, gates on their ratios, and how both are told as table, JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

OURS = "ours"

Headlines = Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Row:
    """One measure of one method in one case.

    Attributes:
        benchmark: Which benchmark.
        case: What was varied, such as "concurrency 8".
        method: Who was measured.
        measure: What was measured, such as "wall".
        value: The median of the repetitions; None when it was not measured.
        unit: "s", "bytes", "1/min/core", "" for a count.
        n: How many repetitions or samples.
        note: Why there is no value, or how to read it.
    """

    benchmark: str
    case: str
    method: str
    measure: str
    value: float | None
    unit: str = ""
    n: int = 1
    note: str = ""


@dataclass(frozen=True)
class Gate:
    """A ratio or count that has to hold on every machine.

    Attributes:
        name: What is compared.
        value: What was measured; None when something for it was missing.
        bound: What it must not fall below (`at_least`) or go above.
        at_least: Which of both.
    """

    name: str
    value: float | None
    bound: float
    at_least: bool = True

    @property
    def holds(self) -> bool | None:
        """Whether it holds; None when it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Measured:
    """When and of what a benchmark was measured.

    Attributes:
        at: The moment it began.
        load: How many processes of the machine wanted to run then, on average over a minute.
        code: What tells the measured code from any other.
    """

    at: str
    load: float
    code: str


@dataclass
class Report:
    """The rows and gates of one run, in order."""

    quick: bool = False
    rows: list[Row] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)

    def value(self, benchmark: str, case: str, method: str, measure: str) -> float | None:
        """Return a measured value; None when there is none."""
        key = (benchmark, case, method, measure)
        return next((r.value for r in self.rows if (r.benchmark, r.case, r.method, r.measure) == key), None)

    def merge(self, other: Report) -> None:
        """Append what another report holds."""
        self.rows += other.rows
        self.gates += other.gates
        self.series |= other.series
        self.measured |= other.measured

    def frame(self) -> pl.DataFrame:
        """Return the rows as a table."""
        import polars as pl

        schema = {"benchmark": pl.String, "case": pl.String, "method": pl.String, "measure": pl.String,
                  "value": pl.Float64, "unit": pl.String, "n": pl.Int64, "note": pl.String}  # fmt: skip
        return pl.DataFrame([asdict(row) for row in self.rows], schema=schema)

    def to_json(self) -> str:
        """Return everything, with the machine it was measured on, as text."""
        gates = [{**asdict(gate), "holds": gate.holds} for gate in self.gates]
        values = {"machine": machine(), "quick": self.quick, "gates": gates, "rows": [asdict(r) for r in self.rows]}
        measured = {name: asdict(one) for name, one in self.measured.items()}
        return json.dumps(values | {"series": self.series, "measured": measured}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Return what `to_json` made, without the machine."""
        values = json.loads(text)
        gates = [Gate(**{k: v for k, v in gate.items() if k != "holds"}) for gate in values["gates"]]
        rows = [Row(**row) for row in values["rows"]]
        series = {name: [(x, y) for x, y in points] for name, points in values["series"].items()}
        measured = {name: Measured(**one) for name, one in values["measured"].items()}
        return cls(values["quick"], rows, gates, series, measured)

    def to_markdown(self, headlines: Headlines | None = None) -> str:
        """Return tables for a README: the gates, then one table for each benchmark with methods in columns.

        Args:
            headlines: Benchmark → the (case, measure) pairs to tell; everything when not given.
        """
        facts = machine()
        head = f"Measured on {facts['cpus']} cores ({facts['cpu']}), Linux {facts['kernel']}"
        parts = [f"{head}; each benchmark in one run, methods alternated, medians."]
        if self.measured:
            moments = (f"{name} from {one.at} at load {one.load:.1f}" for name, one in self.measured.items())
            parts.append(f"When: {'; '.join(moments)} (others used the machine as far as the load says so).")
        if self.gates:
            parts.append(_table(("gate", "measured", "bound", "holds"), [_gate_cells(gate) for gate in self.gates]))
        for benchmark in dict.fromkeys(row.benchmark for row in self.rows):
            rows = [row for row in self.rows if row.benchmark == benchmark]
            told = None if headlines is None else headlines.get(benchmark, ())
            parts += _matrix(rows, benchmark, told)
        return "\n\n".join(parts) + "\n"


def _matrix(rows: Sequence[Row], benchmark: str, told: Sequence[tuple[str, str]] | None) -> list[str]:
    """Return the table of a benchmark, with facts that belong to no method before it and notes after it."""
    facts = [f"{row.case}: {row.measure} {shown(row.value, row.unit)}" for row in rows if not row.method]
    rows = [row for row in rows if row.method and (told is None or (row.case, row.measure) in told)]
    methods = sorted({row.method for row in rows}, key=lambda m: (not m.startswith(OURS), m))
    cases, measures = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("case", "measure"))
    found = {(row.case, row.measure, row.method): row for row in rows}
    pairs = dict.fromkeys((c, m) for c in cases for m in measures if any((c, m, name) in found for name in methods))
    lines = [(case, measure, *(_cell(found.get((case, measure, m))) for m in methods)) for case, measure in pairs]
    notes = dict.fromkeys(f"{row.method}: {row.note}" for row in rows if row.note)
    parts = ["; ".join(facts) + "."] if facts else []
    parts += [_table((benchmark, "", *methods), lines)] if lines else []
    return [*parts, "; ".join(notes) + "."] if notes else parts


def machine() -> dict[str, Any]:
    """Return the facts of this machine that measures depend on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {"cpus": os.cpu_count(), "cpu": model, "memory": memory * 1024, "kernel": platform.release(),
            "python": platform.python_version(), "root": os.geteuid() == 0, "load": os.getloadavg()[0]}  # fmt: skip


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def shown(value: float | None, unit: str) -> str:
    """Return a value as people read it: 0.0042 s → "4.2 ms"."""
    if value is None:
        return "–"
    if unit == "s":
        scaled, name = (value, "s") if value >= 1 else (value * 1e3, "ms")
    elif unit == "bytes":
        scaled, name = next(
            ((value / size, name) for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if abs(value) >= size),
            (value, "B"),
        )
    else:
        scaled, name = value, unit
    digits = 0 if float(scaled).is_integer() or abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2
    return f"{scaled:,.{digits}f} {name}".strip()


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.value is None:
        return f"– ({row.note.split(':')[0]})" if row.note else "–"
    return shown(row.value, row.unit)


def _gate_cells(gate: Gate) -> tuple[str, str, str, str]:
    sign = "≥" if gate.at_least else "≤"
    holds = {True: "yes", False: "**no**", None: "not measured"}[gate.holds]
    return gate.name, shown(gate.value, ""), f"{sign} {shown(gate.bound, '')}", holds


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)

"""Outcomes: what several collections came to, side by side in one table."""

from __future__ import annotations

from collections.abc import Mapping

from swebench_lab.records.rollout import Rollouts
from swebench_lab.records.tables.overview import Overview


def outcomes(rollouts: Mapping[str, Rollouts]) -> Overview:
    """Return a table of collections: attempts, how many are resolved, `pass_at(1)` with its 95 % interval.

    Args:
        rollouts: Name → collection.

    Returns:
        A table; its `.frame` has one row a collection: `agent`, `attempts`, `resolved`, `graded`, `pass_at_1`, `low`,
        `high`, `not_graded`, and the means `steps` and `seconds`. What has no graded attempt has no rate.
    """
    import polars as pl

    rows = []
    for name, collection in rollouts.items():
        rate, frame = collection.pass_at(1), collection.to_frame()
        interval = (float(rate), rate.low, rate.high) if rate.n else (None, None, None)
        counts = (len(collection), len(collection.resolved), len(collection.graded))
        rows.append(
            (name, *counts, *interval, len(collection.not_graded), frame["steps"].mean(), frame["seconds"].mean())
        )
    numbers = ("attempts", "resolved", "graded"), ("pass_at_1", "low", "high")
    schema = {"agent": pl.String, **dict.fromkeys(numbers[0], pl.Int64), **dict.fromkeys(numbers[1], pl.Float64),
              "not_graded": pl.Int64, "steps": pl.Float64, "seconds": pl.Float64}  # fmt: skip
    return Overview(pl.DataFrame(rows, schema=schema, orient="row"), "outcomes, pass@1 with its 95 % interval")

"""Chaos in short: what is killed or filled up in the middle of a collection leaves the same table as no disturbance.

The quick forms are with the engine (a killed box, a stalled endpoint) and the collector (a killed process, resumed).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import swebench_lab as lab
from tests.benchmarks import chaos

pytestmark = pytest.mark.slow

TASKS, ATTEMPTS = 2, 2


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> chaos.Table:
    with lab.SandboxFactory("namespace") as sandboxes:
        sandboxes.prepare(chaos.chosen(TASKS))
    found = chaos.disturbed("", TASKS, ATTEMPTS, tmp_path_factory.mktemp("calm"))
    assert len(found["table"]) == TASKS * ATTEMPTS
    assert {row[0] for row in found["table"].values()} == {"resolved", "unresolved"}
    table: chaos.Table = found["table"]
    return table


@pytest.mark.parametrize("scenario", ["sandboxes", "collector"])
def test_whatever_is_killed_the_table_is_that_of_an_undisturbed_run(
    calm: chaos.Table, scenario: str, tmp_path: Path
) -> None:
    found = chaos.disturbed(scenario, TASKS, ATTEMPTS, tmp_path, seed=1)
    assert found["disturbances"] >= 1
    assert chaos.differences(calm, found["table"]) == [] and found["rows"] == TASKS * ATTEMPTS


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_run_with_words_and_loses_nothing(calm: chaos.Table, tmp_path: Path) -> None:
    found = chaos.disturbed("disk", TASKS, ATTEMPTS, tmp_path)
    assert found["disturbances"] == 2 and chaos.differences(calm, found["table"]) == []

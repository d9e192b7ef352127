"""The benchmarks: a quick run works from end to end and leaves nothing; reports say what was not measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests import benchmarks
from tests.benchmarks import contenders, create, history, soak, storage
from tests.benchmarks.__main__ import kept, publish
from tests.benchmarks.draw import PANELS, draw
from tests.benchmarks.measure import Account, memory, quantile
from tests.benchmarks.report import Gate, Measured, Report, Row, shown
from tests.benchmarks.worker import Worker, WorkerError, together


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def left_in_memory() -> list[str]:
    return sorted(path.name for path in Path("/dev/shm").glob("lab-benchmarks-*"))


@pytest.mark.slow
def test_a_quick_run_measures_and_leaves_nothing(cache: Path) -> None:
    before = left_in_memory()
    report = benchmarks.run(("create", "command"), quick=True, cache=cache)
    assert left_in_memory() == before
    assert report.quick and not report.gates
    assert report.value("create", "concurrency 1", "ours (rootless)", "wall")
    assert report.value("command", "echo hi", "ours (session)", "latency")
    left = [row for row in report.rows if row.case == "left behind" and row.method.startswith("ours")]
    assert left and not any(row.value for row in left)


@pytest.mark.slow
def test_a_quick_run_forks_and_keeps_many_boxes(cache: Path) -> None:
    report = benchmarks.run(("fork", "density"), quick=True, cache=cache)
    assert report.value("fork", "after 3 steps", "ours", "checkpoint + fork")
    assert report.value("density", "8 idle", "ours", "live") == 8
    assert not any(row.value for row in report.rows if row.case == "left behind")


@pytest.mark.slow
def test_a_quick_run_tells_how_busy_both_engines_keep_the_model(cache: Path) -> None:
    pytest.importorskip("trl", reason="training needs trl: pip install 'swebench-lab[train]'")
    report = benchmarks.run(("overlap",), quick=True, cache=cache)
    shares = {row.method: row.value or 0.0 for row in report.rows if row.measure.startswith("share")}
    assert set(shares) == {"sync", "async"} and all(0.0 < share <= 1.0 for share in shares.values())


def test_whoever_is_killed_leaves_nothing(tmp_path: Path) -> None:
    options = benchmarks.Options(tmp_path, tmp_path, tmp_path, quick=True)
    report = soak.run(options, cycles=16, clients=2, seed=3)
    killed = {row.measure: row.value for row in report.rows if row.measure.endswith("killed")}
    assert all(killed.values()) and sum(v or 0 for v in killed.values()) == 16
    assert {gate.name: gate.holds for gate in report.gates} == dict.fromkeys((gate.name for gate in report.gates), True)


def test_what_is_missing_is_told_with_the_command_that_installs_it(tmp_path: Path) -> None:
    options = benchmarks.Options(tmp_path, tmp_path, tmp_path, swe_rex=tmp_path / "swe-rex/bin/python")
    assert "pip install swe-rex" in options.missing_swe_rex()
    for name, command in contenders.INSTALL.items():
        why = contenders.missing(name)
        assert not why or command in why or "root" in why


def test_a_report_survives_json_and_draws() -> None:
    rows = [
        Row("create", "concurrency 1", "ours (root)", "wall", 0.01, "s", 5),
        Row("create", "concurrency 1", "tar-extract", "wall", 4.2, "s", 3),
        Row("create", "concurrency 1", "runc", "wall", None, "s", 0, "not installed: apt-get install runc"),
    ]
    report = Report(False, rows, [Gate("faster", 420.0, 400.0)], {"collect memory": [(0.0, 1e6), (1.0, 1e6)]})
    assert Report.from_json(report.to_json()) == report
    text = report.to_markdown(PANELS)
    assert "| concurrency 1 | wall | 10 ms | – (not installed) | 4.2 s |" in text.replace("10.0", "10").replace(
        "4.20", "4.2"
    )
    assert "apt-get install runc" in text
    assert report.frame().height == 3
    assert draw(report, "create") is not None and draw(report, "collect") is not None
    assert draw(report, "density") is None


def test_a_benchmark_that_was_measured_is_kept_for_the_same_code_only(tmp_path: Path) -> None:
    report = Report(
        False, [Row("soak", "9 cycles", "ours", "wall", 1.0, "s")], measured={"soak": Measured("now", 1, "x")}
    )
    assert kept(tmp_path / "soak.json", "x", False) is None
    (tmp_path / "soak.json").write_text(report.to_json())
    assert kept(tmp_path / "soak.json", "x", False) == report
    assert kept(tmp_path / "soak.json", "y", False) is None
    assert "soak from now at load 1.0" in report.to_markdown()


@pytest.mark.parametrize(
    ("gate", "holds"),
    [(Gate("", 5, 4), True), (Gate("", 3, 4), False), (Gate("", 3, 4, False), True), (Gate("", None, 4), None)],
)
def test_a_gate_holds_or_not_or_was_not_measured(gate: Gate, holds: bool | None) -> None:
    assert gate.holds is holds


def test_the_gates_compare_within_one_run() -> None:
    report = Report()
    for method, wall in (("ours (root)", 0.01), ("tar-extract", 5.0), ("bwrap", 0.02)):
        report.rows.append(Row("create", "concurrency 1", method, "wall", wall, "s"))
    gates = {gate.name: gate for gate in create.gates(report)}
    assert next(gate.value for name, gate in gates.items() if "tar-extract, concurrency 1 " in name) == 500
    assert gates["create: wall over bwrap's, concurrency 1"].holds is True
    assert gates["create: wall over bwrap's, concurrency 128"].holds is None


def test_values_are_shown_as_people_read_them() -> None:
    assert [shown(0.0042, "s"), shown(12, "s"), shown(198e6, "bytes"), shown(0, ""), shown(None, "s")] == [
        "4.20 ms", "12 s", "198 MB", "0", "–",
    ]  # fmt: skip


def test_together_starts_all_at_one_moment_and_counts_each() -> None:
    made: list[object] = []
    took = together(4, object, made)
    assert len(made) == 4 and len(took["each"]) == 4 and took["wall"] == max(took["each"])


def test_an_account_counts_children_too() -> None:
    import subprocess

    with Account("test") as account:
        if account.path is None:
            pytest.skip("this user may not make a control group")
        script = "read x; sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'; read x"
        child = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
        account.enter(child.pid)
        assert account.pids() == [child.pid]
        assert child.stdin
        child.communicate(b"\n\n")
        assert (account.cpu() or 0) > 0.001
        assert account.pids() == []
        path = account.path
    assert not path.exists()


def test_a_worker_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"died during 'ready'.*no such thing"):
        Worker("broken", ["sh", "-c", "echo no such thing >&2; exit 3"], tmp_path / "broken")


def test_memory_and_quantiles() -> None:
    assert memory() > 1_000_000 and memory(proportional=True) > 1_000_000
    assert quantile([3, 1, 2, 4], 0.5) == 3 and quantile([1], 0.95) == 1


def test_a_quick_run_counts_what_environments_and_tasks_cost(tmp_path: Path) -> None:
    report = storage.run(benchmarks.Options(tmp_path / "storage", tmp_path, tmp_path, quick=True))
    report.merge(history.run(benchmarks.Options(tmp_path / "history", tmp_path, tmp_path, quick=True)))
    hot, packed = (
        report.value("storage", "2 environments", method, "on the disk") for method in ("ours", "tar.gz each")
    )
    assert hot and packed and report.value("storage", "2 environments", "ours", "one export")
    value = partial(report.value, "history", "6 commits of made/project, 5 apart", "ours")
    first, further = value("first"), value("further, mean")
    assert first and further and further < first / 2
    assert {gate.name: gate.holds for gate in report.gates if "MB of" in gate.name or "second prep" in gate.name} == {
        "history: MB of a further one of 6 commits of made/project, 5 apart": True,
        "storage: seconds of a second preparation": True,
    }


def test_what_was_written_by_hand_stays_when_figures_are_published(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("old figures\n\n<!-- from here on by hand -->\n\n## Storage\n\nmore\n")
    for _ in range(2):
        publish(Report(quick=False), tmp_path)
        assert page.read_text().startswith("# Benchmarks\n")
        assert page.read_text().endswith("\n\n<!-- from here on by hand -->\n\n## Storage\n\nmore\n")
        assert "old figures" not in page.read_text()

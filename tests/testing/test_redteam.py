"""The red team: namespace boxes and grading hold every attack, and every detector sees what it is there for."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from swebench_lab.errors import SandboxUnavailable
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.task import Task
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.testing.redteam import (
    ATTACKS,
    FORGERIES,
    Attack,
    Forgery,
    Ground,
    Outcome,
    Report,
    attempt,
    catalogue,
    grade,
    redteam,
)
from swebench_lab.testing.redteam.attack import CATEGORIES, gained
from swebench_lab.testing.redteam.loads import tagged
from swebench_lab.testing.redteam.verifiers import FORGED_VERIFIERS
from swebench_lab.testing.redteam.victim import ANSWER, KINDS, make_victim

SLOW = {
    "endless small files",
    "search everything",
    "the answers",
    "memory hog",
    "memory hogs",
    "many small memory hogs",
    "fork bomb",
    "a gigabyte of output",
    "links that change under the host's hands",
    "poison the next box",
}
ALWAYS = {
    "conftest.py beside the tests",
    "a plugin's entry point (dist-info)",
    "a patch through a link",
    "a patch of .git",
    "links in place of tests",
    "a summary, then the end",
    "expected failure when called",
    "kill the grader's shell",
    "secrets of the grader",
    "false lines over the separate way",
    "reports that lie",
    "a link in place of argparse",
    "printed lines, and the end (unittest)",
    "printed lines (unittest)",
    "a package in a folder of another name",
    "a build step that empties the tests",
    "a killed process",
    "settings that lead nowhere",
}
"""Forgeries that are tried in the quick run too; `test_forgery` has more of them."""
TIERS = ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_victim(tmp_path_factory.mktemp("victim"))


@pytest.fixture(scope="module", params=[TIERS[0], *(pytest.param(tier, marks=pytest.mark.slow) for tier in TIERS[1:])])
def sandboxes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxFactory]:
    with SandboxFactory(request.param, cache=tmp_path_factory.mktemp("cache")) as factory:
        yield factory


@pytest.fixture(scope="module")
def ground(sandboxes: SandboxFactory, victim: Task) -> Iterator[Ground]:
    with Ground(sandboxes, sandboxes.snapshot(victim)) as made:
        yield made


@pytest.fixture(scope="module")
def victims(victim: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    others = {kind: make_victim(tmp_path_factory.mktemp(kind), kind) for kind in KINDS if kind != "pytest"}
    return {"pytest": victim, **others}


@pytest.fixture(scope="module")
def evaluator(sandboxes: SandboxFactory, tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    return Evaluator(sandboxes, timeout=15, certificates=tmp_path_factory.mktemp("certificates"))


def marked(one: Attack | Forgery, slow: bool) -> object:
    return pytest.param(one, id=one.name, marks=[pytest.mark.slow] if slow else [])


# --- nothing gets through ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [marked(one, one.name in SLOW) for one in ATTACKS])
def test_an_attack_on_a_box_is_held(attack: Attack, ground: Ground) -> None:
    outcome = attempt(attack, ground)
    assert outcome.held or outcome.stated, outcome.evidence


@pytest.mark.parametrize("forgery", [marked(one, one.name not in ALWAYS) for one in FORGERIES])
def test_a_forged_patch_gets_the_verdict_it_must_get(
    forgery: Forgery, victims: dict[str, Task], evaluator: Evaluator
) -> None:
    evaluator.certificate(victims[forgery.victim], audit="none")  # or no canary watches
    outcome = grade(forgery, victims[forgery.victim], evaluator)
    # What is stated to get through does: the day it no longer does, the statement goes.
    assert outcome.got == (forgery.verdict if not forgery.gap else "resolved"), outcome.evidence


@pytest.mark.parametrize("kind", KINDS)
def test_the_victims_are_good_tasks(kind: str, victims: dict[str, Task], evaluator: Evaluator) -> None:
    certificate = evaluator.certificate(victims[kind])
    assert certificate.passed, certificate.reason


# --- the detectors see ------------------------------------------------------------------------------------------------


def test_untouched_ground_shows_no_harm(ground: Ground) -> None:
    assert ground.harm(b"some output") == ""
    assert ground.harm() == ""


def test_a_secret_in_output_is_seen(ground: Ground) -> None:
    assert "secret" in ground.harm(f"x{ground.token}y".encode())
    assert "hidden test" in ground.harm(ANSWER.encode())


def test_a_changed_file_is_seen_and_repaired(ground: Ground) -> None:
    path = ground.files[0]
    for harm in (
        lambda: path.write_text("x"),
        lambda: path.chmod(0o777),
        path.unlink,
        lambda: os.utime(path, (1, 1)),
        lambda: os.link(path, f"{path}-2"),
        lambda: path.with_name(f"{path.name}-new").write_text("x"),
    ):
        harm()
        assert str(path) in ground.harm()
        assert ground.harm() == ""


def test_a_hurt_process_is_seen_and_replaced(ground: Ground) -> None:
    def pid() -> int:
        return int(ground.clues["LAB_PID"])

    for harm in (
        lambda: os.kill(pid(), signal.SIGSTOP),
        lambda: os.kill(pid(), signal.SIGKILL),
        lambda: resource.prlimit(pid(), resource.RLIMIT_NOFILE, (10, 10)),
        lambda: os.setpriority(os.PRIO_PROCESS, pid(), os.getpriority(os.PRIO_PROCESS, 0) + 3),
    ):
        harm()
        time.sleep(0.2)  # a signal takes its time to arrive
        assert "process" in ground.harm()
        assert ground.harm() == ""


@pytest.mark.skipif(not os.access("/proc/sys/vm/swappiness", os.W_OK), reason="changing a kernel setting needs root")
def test_a_changed_setting_is_seen_once_and_left_to_who_needs_it(ground: Ground) -> None:
    setting = Path("/proc/sys/vm/swappiness")
    before = setting.read_text()
    try:
        setting.write_text(str(int(before) - 1))
        assert f"{setting} changed" in ground.harm()
        assert ground.harm() == ""
        assert setting.read_text() != before
    finally:
        setting.write_text(before)
        ground.repair()


def test_a_contact_is_seen(ground: Ground) -> None:
    with socket.create_connection(("127.0.0.1", int(ground.clues["LAB_IP4_TCP"]))):
        assert "ip4_tcp" in ground.harm()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"x", ("127.0.0.1", int(ground.clues["LAB_IP4_UDP"])))
        assert "ip4_udp" in ground.harm()
    for address, name in ((ground.clues["LAB_SOCKET"], "unix"), ("\0" + ground.clues["LAB_ABSTRACT"], "abstract")):
        with socket.socket(socket.AF_UNIX) as made:
            made.connect(address)
            assert f"{name} socket" in ground.harm()
    assert ground.harm() == ""


def test_what_a_program_gained_is_read_off() -> None:
    assert gained(b"x\nGAINED root\nGAINED more\nnot GAINED\n") == "root; more"
    assert gained(b"nothing") == ""


def test_a_process_is_found_by_its_variable(ground: Ground) -> None:
    with subprocess.Popen(["/bin/sleep", "60"], env={"LAB_TAG": "here-now"}) as process:
        try:
            time.sleep(0.2)  # variables are set a moment after the start
            assert process.pid in tagged("LAB_TAG=here-now")
            assert tagged("LAB_TAG=here") == []
        finally:
            process.kill()


def test_an_attack_that_gains_something_is_reported(ground: Ground) -> None:
    outcome = attempt(Attack("lies", "kernel", "Says so.", program="echo GAINED all"), ground)
    assert (outcome.held, outcome.evidence) == (False, "all")


def test_an_attack_that_breaks_has_not_been_held(ground: Ground) -> None:
    outcome = attempt(Attack("broken", "kernel", "Breaks.", script="1 / 0"), ground)
    assert not outcome.held
    assert "could not be carried out" in outcome.evidence


def test_the_ground_leaves_nothing_behind(sandboxes: SandboxFactory, victim: Task) -> None:
    with Ground(sandboxes, sandboxes.snapshot(victim)) as made:
        files, folder, pid = made.files, made.folder, int(made.clues["LAB_PID"])
        assert all(path.exists() for path in files)
    assert not any(path.exists() for path in files)
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_report_counts_and_names(sandboxes: SandboxFactory) -> None:
    report = redteam(sandboxes, names=["read by path", "devices", "the tests deleted"], progress=False)
    frame = report.to_frame()
    assert report.tier == sandboxes.tier
    assert report.successes == ()
    assert frame.columns[:6] == ["category", "name", "must", "got", "held", "evidence"]
    assert frame.filter(pl.col("name") == "the tests deleted")["must"][0] == "unresolved"
    assert report.ok
    assert frame.filter(pl.col("category") == "devices").height == 2
    assert frame.filter(pl.col("name") == "the tests deleted")["task"][0] == "redteam__ledger-1"
    assert "0 SUCCEEDED" in repr(report)
    assert "read by path" in report._repr_html_()


def test_successes_are_told_from_stated_gaps() -> None:
    report = Report(
        "landlock",
        (
            Outcome("a", "links", True),
            Outcome("b", "kernel", False, "got in"),
            Outcome("c", "kernel", False, "x", "known"),
        ),
    )
    assert [one.name for one in report.successes] == ["b"]
    assert "SUCCEEDED  kernel: b: got in" in repr(report)
    assert "stated     kernel: c: known" in repr(report)


def test_a_forged_run_that_counts_as_a_failed_one_is_misjudged() -> None:
    report = Report("x", (Outcome("a", "grading", True, must="not graded", got="unresolved"),))
    assert report.successes == () and not report.ok
    assert "misjudged  grading: a: unresolved, not not graded" in repr(report)


def test_the_catalogue_has_every_attack_with_its_verdict() -> None:
    table = catalogue()
    assert table["name"].to_list() == [one.name for one in (*ATTACKS, *FORGERIES, *FORGED_VERIFIERS)]
    assert set(table["must"]) == {"held", "unresolved"}


def test_the_command_line_shows_a_table_and_fails_when_an_attack_succeeds(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "from swebench_lab.cli.main import main; main(prog_name='swebench-lab')"
        env = {**os.environ, "SWEBENCH_LAB_CACHE": str(tmp_path)}
        command = [sys.executable, "-c", code, "redteam", "--only", "steal descriptors", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    held = run()
    assert held.returncode == 0, held.stderr
    assert "steal descriptors" in held.stdout and "0 SUCCEEDED" in held.stdout
    assert run("--backend", "local").returncode == 1, "nothing is attacked that has no walls"


def test_an_unknown_name_is_an_error(sandboxes: SandboxFactory) -> None:
    with pytest.raises(ValueError, match="no attack"):
        redteam(sandboxes, names=["sneezing"])


def test_boxes_without_walls_are_not_attacked() -> None:
    with pytest.warns(UserWarning, match="no walls"), SandboxFactory("local") as local:
        pass
    with pytest.raises(SandboxUnavailable, match="would hit this machine"):
        redteam(local)


def test_names_in_this_file_are_names_of_attacks() -> None:
    assert {one.name for one in ATTACKS} >= SLOW
    assert {one.name for one in FORGERIES} >= ALWAYS


def test_every_attack_is_named_once_and_has_a_known_category() -> None:
    names = [one.name for one in (*ATTACKS, *FORGERIES)]
    assert len(names) == len(set(names))
    assert {one.category for one in ATTACKS} <= set(CATEGORIES)
    assert all(one.tries.endswith(".") for one in (*ATTACKS, *FORGERIES))


def test_a_separate_verifier_holds_every_forgery_and_a_shared_one_says_what_it_cannot_promise(tmp_path):
    sandboxes = SandboxFactory(cache=tmp_path / "cache")
    report = redteam(sandboxes, names=["verifiers"], progress=False)
    assert report.ok, report
    separate = [one for one in report.outcomes if one.name.endswith("(separate)")]
    assert len(separate) >= 10 and all(one.held and one.got == "unresolved" for one in separate)
    assert all(one.name.endswith("(shared)") and "beside the patch's code" in one.stated for one in report.stated_gaps)

"""doctor: looks at the real machine, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swebench_lab.sandbox.quotas import FILE
from swebench_lab.testing.doctor.doctor import Finding, Report, State, doctor


@pytest.fixture(scope="module")
def report() -> Report:
    return doctor()


def test_doctor_finds_what_these_tests_run_on(report: Report) -> None:
    assert report.ok, repr(report)
    for name in ("python", "git", "bash", "uv", "sandbox", "cache", "memory"):
        assert report[name].state != State.BROKEN
    assert "namespace" in report["sandbox"].message and "ms" in report["sandbox"].message
    assert report["extra notebook"].state == State.OK


def test_every_finding_that_is_not_in_order_says_what_to_do(report: Report) -> None:
    for finding in report.findings:
        assert finding.message
        if finding.state in (State.BROKEN, State.TIGHT):
            assert finding.fix


def test_a_report_sums_up_and_can_be_read_by_programs_and_browsers() -> None:
    broken = Report((Finding("git", State.BROKEN, "not <found>", "install it"), Finding("uv", State.OK, "uv 1")))
    assert not broken.ok
    assert "→ install it" in repr(broken) and repr(broken).startswith("needs attention: git")
    assert "uv" not in repr(broken) and "uv 1" in broken.to_text() and broken.frame.height == 2
    assert len(repr(Report((Finding("uv", State.OK, "uv 1"),))).splitlines()) == 1
    assert "not &lt;found&gt;" in broken._repr_html_()
    assert json.loads(json.dumps(broken.to_dict()))["findings"][0]["state"] == "broken"


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {**os.environ, "SWEBENCH_LAB_CACHE": str(tmp_path / "file" / "cache")}
    code = (
        "from swebench_lab.testing.doctor.doctor import doctor; r = doctor(); print(r['cache'].state, r['cache'].fix)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("broken set SWEBENCH_LAB_CACHE")


def shared(folder: Path) -> list[str]:
    """What the doctor says of packs and quotas, one line each."""
    env = {
        **os.environ,
        "SWEBENCH_LAB_SHARED_CACHE": str(folder / "packs"),
        "SWEBENCH_LAB_QUOTA": str(folder / "quota.toml"),
        "SWEBENCH_LAB_CACHE": str(folder / "cache"),
    }
    code = "from swebench_lab.testing.doctor.doctor import _sharing; [print(f.state, f.message) for f in _sharing()]"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(FILE.exists(), reason="the administrator of this machine has set quotas; those are what is told")
def test_what_users_share_and_what_bounds_them_is_told_to_an_administrator(tmp_path: Path) -> None:
    (tmp_path / "quota.toml").write_text(f'[everybody]\nsandboxes = 3\ncounted_in = "{tmp_path}/seats"\n')
    packs, quota = shared(tmp_path)
    assert packs.startswith("broken") and "cannot be reached" in packs
    assert quota.startswith("ok") and quota.endswith("3 sandboxes; 0 sandboxes open")
    (tmp_path / "packs").mkdir()
    assert shared(tmp_path)[0].startswith("ok") and "0 packs" in shared(tmp_path)[0]
    (tmp_path / "packs").chmod(0o777)
    (tmp_path / "quota.toml").write_text("[everybody]\nboxes = 3\n")
    packs, quota = shared(tmp_path)
    assert packs.startswith("broken") and "written by others" in packs
    assert quota.startswith("broken") and "unknown quota 'boxes'" in quota


def test_doctor_imports_nothing_heavy() -> None:
    code = (
        "import sys; from swebench_lab.testing.doctor.doctor import doctor; doctor();"
        "print([m for m in ('torch', 'ray', 'swebench', 'matplotlib', 'papermill') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

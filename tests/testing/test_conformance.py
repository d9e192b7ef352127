"""Every behaviour of the conformance kit, on every backend of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swebench_lab.sandbox.landlock import ruleset
from swebench_lab.sandbox.landlock.sandbox import LandlockSandbox, open_landlock
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing import conformance

TIERS = ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]
LANDLOCK = [one for one in conformance.behaviours() if one.needs <= LandlockSandbox.capabilities]


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("behaviour", conformance.behaviours(), ids=lambda behaviour: behaviour.name)
def test_namespace(behaviour, tier, snapshot):
    behaviour.check(lambda **options: open_namespace(snapshot, tier=tier, **options))


@pytest.mark.skipif(ruleset.abi() == 0, reason="this kernel has no Landlock")
@pytest.mark.parametrize("behaviour", LANDLOCK, ids=lambda behaviour: behaviour.name)
def test_landlock(behaviour, snapshot):
    behaviour.check(lambda **options: open_landlock(snapshot, **options))


def test_the_subset_of_landlock_is_most_of_the_kit():
    assert len(LANDLOCK) >= 80


def test_outcomes_tell_what_was_shown_what_was_not_and_what_was_not_tried():
    def forgetful(snapshot, **options):
        box = open_namespace(snapshot, **options)
        box.list = lambda path=".": []
        return box

    outcomes = {one.behaviour.name: one for one in conformance.run(forgetful, ["files"], lacks=["own root"])}
    assert outcomes["files_are_read_as_they_are"].passed
    assert outcomes["a_directory_is_listed"].failed and "listing: []" in str(outcomes["a_directory_is_listed"])
    left = outcomes["a_path_cannot_climb_out"]
    assert not left.passed and not left.failed and str(left).endswith("this tier has no own root")


def test_users_run_the_kit_on_a_backend_of_their_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from swebench_lab.sandbox.namespace.sandbox import open_namespace as open_mine\n"
    )
    root = Path(conformance.__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"}
    command = [sys.executable, "-m", "swebench_lab.testing.conformance"]
    done = subprocess.run([*command, "mine:open_mine", "--group", "patches"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   patches: binary_files_are_in_the_patch" in done.stdout and "0 FAILED" in done.stdout
    assert subprocess.run([*command, "none"], env=env, capture_output=True).returncode == 2


def test_the_kit_has_the_behaviours_it_says():
    assert len(conformance.behaviours()) >= 60
    assert all(behaviour.promise and behaviour.group in conformance.GROUPS for behaviour in conformance.behaviours())

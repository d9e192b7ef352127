"""The local backend: what it keeps of a box's promises, and what it says about those it does not keep."""

import pytest

from swebench_lab.sandbox.local import open_local
from swebench_lab.testing import conformance

NOT_KEPT = {
    "the_environment_is_clean": "a variable marks the processes of a box",
    "only_standard_descriptors_are_open": "what this process left inheritable is inherited",
    "a_path_cannot_climb_out": "paths are the host's",
    "links_are_followed_inside_the_box_only": "links lead where they lead on the host",
    "a_fork_has_the_files_and_then_goes_its_way": "looks at /tmp, which is the host's",
    "a_patch_cannot_reach_outside": "looks at /tmp, which is the host's",
    "filters_hooks_and_attributes_do_not_run": "looks at /tmp, which is the host's",
    "making_a_patch_changes_nothing": "looks at /tmp, which is the host's",
    "a_checkpoint_of_a_living_box_is_possible": "looks at /tmp, which is the host's",
    "a_stopped_process_stays_stopped": "sees processes of the host",
    "a_timeout_in_a_session_ends_the_command_only": "a daemon that was ended is listed until the machine's own init collects it",
    "a_background_job_of_a_session_does_not_hold_it_up": "sees processes of the host",
    "replaced_and_deleted_directories_stay_so": "looks at /tmp, which is the host's",
    "links_modes_times_and_holes_are_kept": "looks at /tmp, which is the host's",
    "renames_are_kept": "looks at /tmp, which is the host's",
    "a_packed_layer_is_the_same_elsewhere": "looks at /tmp, which is the host's",
    "a_long_history_is_merged": "looks at /tmp, which is the host's",
}
KEPT = [
    behaviour
    for behaviour in conformance.behaviours(["commands", "sessions", "files", "patches", "checkpoints"])
    if behaviour.name not in NOT_KEPT
]


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


@pytest.mark.parametrize("behaviour", KEPT, ids=lambda behaviour: behaviour.name)
def test_local(behaviour, snapshot):
    behaviour.check(lambda **options: open_local(snapshot, **options))


def test_its_tier_says_what_it_is(snapshot):
    with open_local(snapshot) as box:
        assert box.tier == "local"
        assert "local" in repr(box)
        assert open_local.__doc__ is not None and "does not isolate" in open_local.__doc__


def test_checkpoints_restore_files_and_deletions(snapshot):
    with open_local(snapshot) as box:
        box.run("echo 1 > a; rm README.md; rm -r src; mkdir src; echo 2 > src/new")
        with box.fork() as other:
            assert other.run("ls; ls src; cat a").output == box.run("ls; ls src; cat a").output
            other.write("a", "other")
            assert box.read("a") == "1\n"


def test_nothing_is_left_after_close(snapshot, tmp_path):
    with open_local(snapshot, scratch=tmp_path) as box:
        box.run("setsid nohup sleep 7955 >/dev/null 2>&1 & echo x > f; chmod 000 src")
        folder = box._folder
    assert not folder.exists()
    assert not box.snapshot.layers[0].joinpath("testbed", "f").exists()

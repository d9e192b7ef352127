"""Processes: what a session's line started is told apart from what ran before it."""

import os
import subprocess

from swebench_lab.sandbox.linux.processes import Newcomers, Process, end, read_process, table

TICKS = os.sysconf("SC_CLK_TCK")


def test_newcomers_are_neither_the_shell_nor_what_ran_before_nor_what_that_starts() -> None:
    newcomers = Newcomers(10, since=5.0, before=[10, 11])
    now = 5 * TICKS

    def one(pid: int, parent: int, started: int = now) -> bool:
        return newcomers.include(Process(pid, parent, 10, "S", started))

    assert not one(10, 1)  # the shell
    assert not one(11, 10)  # of the same clock tick, but known
    assert not one(12, 10, now - 1)  # older
    assert not one(13, 12) and not one(14, 13)  # what older ones start
    assert one(15, 10) and one(16, 15) and one(17, 1)


def test_what_is_chosen_ends_and_nothing_else() -> None:
    with subprocess.Popen(["sleep", "7906"]) as one, subprocess.Popen(["sleep", "7906"]) as other:
        assert {one.pid, other.pid} <= {process.pid for process in table()}
        end(lambda process: process.pid == one.pid, whole_groups=False)
        assert one.wait(5) == -9 and read_process(one.pid) is None
        assert other.poll() is None
        other.kill()

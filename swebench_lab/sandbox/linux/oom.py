"""Who ends first when memory is short: the commands of a box, however little each holds, before its first process.

The kernel ends the process that holds the most memory and adds to that a score that every process inherits. Without one,
many small processes outlive the first process of their box, and the box is gone with it. A box cannot lower a score: it
would have to write to /proc, which it has read-only.
"""

from __future__ import annotations

import os

_MOST = 1000
# Of commands; thousandths of the bound on memory, as if they held that much more. As much as there can be: the process
# that starts them may itself hold almost half of a small bound, and has a score as well for the moment told below.
_LATER = _MOST
# Of this process for the moment in which it starts a command, which inherits it: with less, a command that starts others
# at once would leave them without; with as much as commands have, this process would be the largest of its kind.
_MOMENT = 250


class Scores:
    """The scores that a first process gives to itself and to its commands; nothing where the kernel does not let it.

    Args:
        table: A directory that shows the processes and can be written to; -1 without one.
    """

    def __init__(self, table: int = -1) -> None:
        self._table = table
        self._usual = 0
        try:
            self._own = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._usual = int(os.pread(self._own, 16, 0))
        except OSError:
            self._own = -1

    def begin(self) -> None:
        """Have what is started from now on inherit a score."""
        self._set_own(_MOMENT)

    def end(self) -> None:
        """Have this process end last again."""
        self._set_own(0)

    def _set_own(self, more: int) -> None:
        if self._own < 0:
            return
        try:
            os.pwrite(self._own, b"%d" % min(self._usual + more, _MOST), 0)
        except OSError:  # a kernel that does not let it go down again
            os.close(self._own)
            self._own = -1

    def give(self, pid: int) -> None:
        """Give a process, and what it starts from now on, the score of a command."""
        if self._table < 0:
            return
        give(pid, self._table, self._usual)


def give(pid: int, table: int | None = None, usual: int = 0) -> None:
    """Give a process the score of a command; one that has ended, or is somebody else's, stays as it is.

    Args:
        pid: As the table has it.
        table: A directory that shows processes; this process's own /proc when None.
        usual: What processes here have anyway.
    """
    try:
        place = f"{pid}/oom_score_adj" if table is not None else f"/proc/{pid}/oom_score_adj"
        score = os.open(place, os.O_WRONLY | os.O_CLOEXEC, dir_fd=table)
        try:
            os.write(score, b"%d" % min(usual + _LATER, _MOST))
        finally:
            os.close(score)
    except OSError:
        pass

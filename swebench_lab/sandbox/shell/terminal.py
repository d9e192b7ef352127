"""A terminal device of a box's own: both of its ends, opened from the box's /dev/pts."""

import os
import struct
from collections.abc import Callable

from swebench_lab._unix import fcntl, termios

_LOCK_SLAVE = 0x40045431  # TIOCSPTLCK of <asm-generic/ioctls.h>, which termios does not name
_SLAVE_NUMBER = 0x80045430  # TIOCGPTN
_FLAGS = os.O_RDWR | getattr(os, "O_NOCTTY", 0)
_MOST_ROWS, _MOST_COLUMNS = 500, 1000


def open_pair(open_in_box: Callable[[str, int], int]) -> tuple[int, int]:
    """Open a new terminal.

    Args:
        open_in_box: Opens a path with flags as a command of the box would.

    Returns:
        The controlling end, which does not block, and the end for programs; the caller closes both.

    Raises:
        OSError: The box has no terminals.
    """
    master = open_in_box("/dev/ptmx", _FLAGS)
    try:
        fcntl.ioctl(master, _LOCK_SLAVE, struct.pack("i", 0))
        number = struct.unpack("i", fcntl.ioctl(master, _SLAVE_NUMBER, b"\0" * 4))[0]
        slave = open_in_box(f"/dev/pts/{number}", _FLAGS)
    except OSError:
        os.close(master)
        raise
    os.set_blocking(master, False)
    return master, slave


def resize(terminal: int, rows: int, columns: int) -> None:
    """Set the size of a terminal, in characters; its programs are notified."""
    size = (max(1, min(rows, _MOST_ROWS)), max(1, min(columns, _MOST_COLUMNS)), 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size))

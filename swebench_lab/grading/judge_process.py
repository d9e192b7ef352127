"""JudgeProcess: judges long logs in a process of its own, so that no log can hold up this one, or fill its memory.

What tests print is up to the patch, and SWE-bench's parsers hold expressions whose time grows with the square or the cube
of what they read: one printed line would stop every thread of this process for hours.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from swebench_lab.errors import LabError
from swebench_lab.grading.execution.test_run import TestRun
from swebench_lab.grading.judge import judge, judge_log
from swebench_lab.grading.rules.expectation import Expectation
from swebench_lab.records.verdict import NOT_GRADED, Cause, Verdict

DEADLINE = 60.0
"""Seconds that judging one log may take; the longest of SWE-bench's, 3 MB, takes two."""
_SHORT = 2_000  # characters; no expression takes long on so few
_MOST_MEMORY = 4 << 30  # bytes
_START = "import sys; sys.path[:] = sys.argv[1:]; from swebench_lab.grading.judge_process import serve; serve()"

_idle: list[JudgeProcess] = []
_lock = threading.Lock()
_places = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))


def judge_apart(run: TestRun, expected: Expectation) -> Verdict:
    """Decide what one run says, as `judge` does; of a log that cannot be read, *not graded*, `crashed`.

    Raises:
        GradingError: The parser or the evaluation type is unknown.
    """
    verdict = _apart(judge, len(run.output), run, expected)
    return _unreadable(run, run.to_log(), verdict) if isinstance(verdict, str) else verdict


def judge_log_apart(log: str, expected: Expectation) -> Verdict:
    """Decide what a stored log says, as `judge_log` does, in the same way.

    Raises:
        GradingError: The log is damaged, or the parser or the evaluation type is unknown.
    """
    verdict = _apart(judge_log, len(log), log, expected)
    return _unreadable(TestRun.from_log(log), log, verdict) if isinstance(verdict, str) else verdict


def _unreadable(run: TestRun, log: str, why: str) -> Verdict:
    reason = f"the log could not be read: {why}"
    return Verdict(NOT_GRADED, reason, exit_code=run.exit_code, log=log, notes=run.notes, cause=Cause.CRASHED)


def _apart(function: Callable[..., Verdict], size: int, *arguments: Any) -> Verdict | str:
    """Call a function of `judge`, in another process where the log is long; returns why that failed, if it did."""
    answer: Verdict | LabError | str
    if size <= _SHORT:
        answer = _answer(function, arguments)
    else:
        with _places, _process() as process:
            answer = process.ask((function, arguments), DEADLINE)
    if isinstance(answer, LabError):
        raise answer
    return answer


def _answer(function: Callable[..., Verdict], arguments: Any) -> Verdict | LabError | str:
    try:
        return function(*arguments)
    except LabError as error:
        return error
    except Exception as error:  # a recording boundary: what breaks a parser is in the log, which is the patch's
        return f"{type(error).__name__}: {error}"


@contextmanager
def _process() -> Iterator[JudgeProcess]:
    """A process that nobody else asks meanwhile."""
    with _lock:
        process = _idle.pop() if _idle else None
    process = process or JudgeProcess()
    try:
        yield process
    except BaseException:
        process.end()
        raise
    if process.running:
        with _lock:
            _idle.append(process)


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


class JudgeProcess:
    """A process that answers one question after the other."""

    def __init__(self) -> None:
        self.running = True
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, start_new_session=True,
        )  # fmt: skip

    def ask(self, question: Any, seconds: float) -> Any:
        """Return the answer; of one that does not come, why, in words, and then the process has ended."""
        deadline = time.monotonic() + seconds
        try:
            self._write(pickle.dumps(question))
            size = int.from_bytes(self._read(8, deadline), "big")
            return pickle.loads(self._read(size, deadline))
        except TimeoutError:
            self.end()
            return f"that takes more than {seconds:.0f} s"
        except (BrokenPipeError, EOFError):
            self.end()
            return f"that takes more than {_MOST_MEMORY >> 30} GiB of memory"

    def _write(self, question: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(len(question).to_bytes(8, "big") + question)
        while rest:
            rest = rest[self._process.stdin.write(rest) or 0 :]

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        parts = bytearray()
        while len(parts) < size:
            if not select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(self._process.stdout.fileno(), min(1 << 20, size - len(parts)))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def end(self) -> None:
        """End the process."""
        self.running = False
        self._process.kill()
        with self._process:  # waits, and closes its pipes
            pass


def serve() -> None:
    """Answer questions from the standard input until it ends."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what parsers print is no answer
    while head := questions.read(8):
        answer = pickle.dumps(_answer(*pickle.loads(questions.read(int.from_bytes(head, "big")))))
        answers.write(len(answer).to_bytes(8, "big") + answer)
        answers.flush()

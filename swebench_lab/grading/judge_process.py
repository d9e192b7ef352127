"""JudgeProcess: judges long logs in a process of its own, so that no log can hold up this one, or fill its memory.

What tests print is up to the patch, and SWE-bench's parsers hold expressions whose time grows with the square or the cube
of what they read: one printed line would stop every thread of this process for hours.

What a log may cost is counted in processor time and memory of that process alone, so that a busy machine is never held against
a patch; and a process that ends in any other way than by those two bounds is an infrastructure error.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from swebench_lab.errors import GradingError, LabError
from swebench_lab.grading.execution.test_run import TestRun
from swebench_lab.grading.judge import judge, judge_log
from swebench_lab.grading.rules.expectation import Expectation
from swebench_lab.records.verdict import NOT_GRADED, Cause, Verdict

MOST_SECONDS = 60.0
"""Seconds of a processor that judging one log may take; the longest of SWE-bench's, 3 MB, takes two."""
_PATIENCE = 30
"""How many times longer that may take by the clock."""
_SHORT = 2_000  # characters; no expression takes long on so few
_MOST_MEMORY = 4 << 30  # bytes
_START = "import sys; sys.path[:] = sys.argv[1:]; from swebench_lab.grading.judge_process import serve; serve()"

_idle: list[JudgeProcess] = []
_lock = threading.Lock()
_places = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))


def judge_apart(run: TestRun, expected: Expectation) -> Verdict:
    """Decide what one run says, as `judge` does; of a log that cannot be read, *not graded*, `crashed`.

    Raises:
        GradingError: The parser or the evaluation type is unknown, or the process was ended from outside.
    """
    verdict = _apart(judge, len(run.output), run, expected)
    return _unreadable(run, run.to_log(), verdict) if isinstance(verdict, str) else verdict


def judge_log_apart(log: str, expected: Expectation) -> Verdict:
    """Decide what a stored log says, as `judge_log` does, in the same way.

    Raises:
        GradingError: The log is damaged, the parser or the evaluation type is unknown, or the process was ended from
            outside.
    """
    verdict = _apart(judge_log, len(log), log, expected)
    return _unreadable(TestRun.from_log(log), log, verdict) if isinstance(verdict, str) else verdict


def _unreadable(run: TestRun, log: str, why: str) -> Verdict:
    reason = f"the log could not be read: {why}"
    return Verdict(NOT_GRADED, reason, exit_code=run.exit_code, log=log, notes=run.notes, cause=Cause.CRASHED)


def _apart(function: Callable[..., Verdict], size: int, *arguments: Any) -> Verdict | str:
    """Call a function of `judge`, in another process where the log is long; returns why that failed, if it did."""
    answer = _answer(function, arguments) if size <= _SHORT else _ask((function, arguments))
    if isinstance(answer, LabError):
        raise answer
    return answer


def _ask(question: Any) -> Verdict | LabError | str:
    """Ask a process, and another one where the first is ended from outside."""
    for _ in range(2):
        with _places, _process() as process:
            answer: Verdict | LabError | str | None = process.ask(question, MOST_SECONDS)
        if answer is not None:
            return answer
    ended = f"the process that reads its log ended twice, the last time with {process.code}, and not by what it read"
    raise GradingError(f"judging a test run: {ended}; is the machine out of memory? Grade the patch again")


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
    if process is None or not process.running:
        process = JudgeProcess()
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
        self._process = subprocess.Popen(
            [str(Path(sys.executable).absolute()), "-c", _START, *sys.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, start_new_session=True,
        )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.poll()

    def ask(self, question: Any, seconds: float) -> Any:
        """Return the answer, or in words that it takes too long; None where the process ended by something else."""
        try:
            self._write(pickle.dumps((seconds, question)))
            ends = time.monotonic() + _PATIENCE * seconds
            size = int.from_bytes(self._read(8, ends), "big")
            return pickle.loads(self._read(size, ends))
        except (OSError, EOFError, TimeoutError) as error:
            if not isinstance(error, TimeoutError):
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(5)
            self.end()
            return f"that takes more than {seconds:.0f} s" if self.code == -signal.SIGPROF else None

    def _write(self, question: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(len(question).to_bytes(8, "big") + question)
        while rest:
            rest = rest[self._process.stdin.write(rest) or 0 :]

    def _read(self, size: int, ends: float) -> bytes:
        assert self._process.stdout is not None
        ready = select.poll()  # unlike select, for any number of open files
        ready.register(self._process.stdout, select.POLLIN)
        parts = bytearray()
        while len(parts) < size:
            if not ready.poll(max(0.0, ends - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(self._process.stdout.fileno(), min(1 << 20, size - len(parts)))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def end(self) -> None:
        """End the process; may be called more than once."""
        self._process.kill()
        with self._process:  # waits, and closes its pipes
            pass


def serve() -> None:
    """Answer questions from the standard input until it ends."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what parsers print is no answer
    while head := questions.read(8):
        seconds, question = pickle.loads(questions.read(int.from_bytes(head, "big")))
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends this process, in the middle of an expression as well
        answer = pickle.dumps(_answer(*question))
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        answers.write(len(answer).to_bytes(8, "big") + answer)
        answers.flush()

"""BashSession: a bash that lives on between commands, fed through a pipe, reporting the end of each on a descriptor."""

import os
import secrets
import select
import shlex
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from swebench_lab.errors import SandboxClosed, SandboxPathError
from swebench_lab.sandbox.shell import commands
from swebench_lab.sandbox.shell.commands import Capped, Exit, Result, Running

Launch = Callable[[Sequence[str], str, Mapping[str, str | None], Mapping[int, int]], Running]

_REPORT = 61  # bash's descriptor for reports; closed for the commands it runs
_ERRORS = 62  # where a traced shell's commands find their standard error, while its own is put away
_END = b"\x01end "
_MOST_REPORTED = 16 << 20  # bytes of reports on one line; a shell's variables are far less
_GRACE = 1.0  # seconds bash may take to report a command whose processes were ended
_BLUR = 0.05  # seconds; processes are dated by clock ticks of 10 ms, those of a box elsewhere by an estimated clock
_OWN = ("_", "SHLVL", "PWD", "OLDPWD")
_LISTS = "".join(
    f"builtin {words} || builtin :; builtin printf '\\0'; "
    for words in ("declare -Fx", "compgen -e", "compgen -A arrayvar")
)
"""What tells the names of exported functions, of exported variables, and of arrays, which no program ever sees."""

_ASKING = 10.0  # seconds that a shell may take to say what its variables are


class BashSession:
    """Commands in one shell, one after the other: directory, variables, functions and background jobs stay.

    Standard input of commands is empty. A command that ends the shell (`exit`, `set -e`) ends it with that command's
    Result; the next command starts a fresh shell where the last one stood, or above if that is gone. The same happens
    after a timeout that the shell itself does not survive (a loop of its own); variables are then those last seen by
    `env()`.
    """

    def __init__(
        self,
        launch: Launch,
        judge: Callable[[Result], Result],
        cwd: str,
        env: Mapping[str, str],
        or_above: bool = False,
    ) -> None:
        self._launch = launch
        self._judge = judge
        self._cwd = cwd
        self._initial_env = dict(env)
        self._env = dict(env)
        self._names: list[str] = []
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._input = self._output = self._report = -1
        self._idle_since = 0.0
        self._is_env_current = False  # whether `_env` is what the shell said after its last command
        self._flags = ""  # bash's options of one letter, as they were after the last line
        self._or_above = or_above  # when `_cwd` is gone; a directory that was asked for has to be there
        self.closed = False
        try:
            self._start()
        except SandboxPathError:
            if not or_above:
                raise

    @property
    def cwd(self) -> str:
        """Where the shell stands."""
        return self._cwd

    @property
    def alive(self) -> bool:
        """Whether the shell of the last command still runs, so that the next one finds all that was set in it."""
        return self._running is not None

    def run(self, command: str, timeout: float | None = None, max_output: int = 10_000_000) -> Result:
        """Run a command in the shell.

        Args:
            command: Shell text, of any number of lines.
            timeout: Seconds; at their end everything the command started ends, the shell and earlier jobs live on.
            max_output: Bytes of output kept, half from its head and half from its tail.
        """
        if "\0" in command:
            raise ValueError("a shell command cannot hold a NUL character")
        line = f"eval {shlex.quote(command)} </dev/null {_REPORT}>&-"
        if (
            "x" in self._flags
        ):  # bash shows what it is about to do on the descriptor around it, the command's own inside
            line = f"{{ {line} 2>&{_ERRORS} {_ERRORS}>&-; }} {_ERRORS}>&2 2>/dev/null"
        self._is_env_current = False
        return self._exchange(line, timeout, max_output)[0]

    def env(self) -> dict[str, str]:
        """The variables that programs started by the shell would see, asked for once after each command."""
        if self._is_env_current and self._running is not None:
            return dict(self._env)
        records = self._exported()
        if records is None:
            words = " ".join(f"-u {name}" for name in _OWN)
            records = self._exchange(f"{{ /usr/bin/env {words} -0 >&{_REPORT}; }} 2>/dev/null", _ASKING, 1 << 20)[1]
        pairs = (record.decode("utf-8", errors="surrogateescape").partition("=") for record in records)
        self._env = {name: value for name, _, value in pairs if name}
        self._is_env_current = True
        return dict(self._env)

    def _exported(self) -> list[bytes] | None:
        """Exported variables as the shell itself tells them, without a process; None where only a program can tell."""
        for _ in range(2):  # it is asked for those that were there last, and most of the time they still are
            values = " ".join(f'"${{{name}+{name}=${name}}}"' for name in self._names)
            query = f"{{ {_LISTS} builtin printf '%s\\0' {values}; }} >&{_REPORT} 2>/dev/null"
            answer = self._exchange(query, _ASKING, 1 << 20, starts_nothing=True)[1]
            if len(answer) < 3:
                return None
            functions, variables, arrays = (os.fsdecode(record).split() for record in answer[:3])
            names = sorted(set(variables).difference(arrays, _OWN))
            if functions or not names or not all(name.isidentifier() for name in names):
                return None  # functions are exported in a form of bash's own
            if names == self._names:
                return answer[3:]
            self._names = names
        return None

    def state(self) -> tuple[str, dict[str, str]] | None:
        """Directory and variables; the last known ones while a command runs, None when the session is closed."""
        if self.closed:
            return None
        if self._running is not None and not self._lock.locked():
            self.env()
        return self._cwd, dict(self._env)

    def close(self) -> None:
        """End the shell and everything started in it; calling it again does nothing."""
        if not self.closed:
            self.closed = True
            if self._running is not None:
                self._running.kill()
            self._drop()

    def forget(self) -> None:
        """Let go of a shell whose box is ending."""
        self.closed = True
        self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session in {self._cwd}{' (closed)' if self.closed else ''}>"

    # --- the shell ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (script, self._input), (self._output, output), (self._report, report) = ends
        try:
            descriptors = {0: script, 1: output, 2: output, _REPORT: report}
            self._running = self._launch(["bash", "--norc", "--noprofile"], self._cwd, self._env, descriptors)
        except BaseException:
            for descriptor in (self._input, self._output, self._report):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (script, output, report):
                os.close(descriptor)
        os.set_blocking(self._report, False)

    def _drop(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running, self._flags = None, ""
            for descriptor in (self._input, self._output, self._report):
                os.close(descriptor)

    def _exchange(
        self, line: str, timeout: float | None, max_output: int, starts_nothing: bool = False
    ) -> tuple[Result, list[bytes]]:
        """Have bash do one line; its result and whatever records it wrote on the report descriptor."""
        with self._lock:
            if self.closed:
                raise SandboxClosed("this session is closed; open another one with sandbox.session()")
            spared = () if starts_nothing else self._before(timeout)
            start, since = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
            mark = secrets.token_hex(8)  # a command that writes a report of its own does not know it
            report = f'builtin printf \'\\1end {mark} %d %s %s\\0\' "$?" "$-" "$PWD" >&{_REPORT}'
            text = f"{line}\n\n{{ {report}; }} 2>/dev/null\n"  # after a broken line, bash reads none with a brace
            deadline = None if timeout is None else start + timeout
            line_bytes = text.encode("utf-8", errors="surrogateescape")
            exchange, complete = self._begin(line_bytes, max_output, deadline, mark)
            timed_out = not complete
            if timed_out:
                assert self._running is not None
                if not starts_nothing:
                    self._running.kill(since, spared)
                complete = self._attend(exchange, time.monotonic() + _GRACE)
            if not starts_nothing:
                self._idle_since = time.monotonic()
            return self._judge(self._conclude(exchange, start, complete, timed_out)), exchange.records

    def _begin(self, text: bytes, max_output: int, deadline: float | None, mark: str) -> "tuple[_Exchange, bool]":
        """Attend to a line, in a new shell where there is none.

        Where the last one's directory is gone, the new one starts above; where no shell starts with its variables (too
        many, no PATH), with those that the session began with.
        """
        place = self._cwd
        while True:
            exchange = _Exchange(text, max_output, mark)
            try:
                if self._running is None:
                    self._start()
                complete = self._attend(exchange, deadline)
                self._or_above = True
                return exchange, complete
            except SandboxPathError:
                self._drop()
                if self._or_above and self._cwd != "/":
                    self._cwd = os.path.dirname(self._cwd)
                elif self._env != self._initial_env:
                    self._env, self._cwd = dict(self._initial_env), place
                else:
                    raise

    def _before(self, timeout: float | None) -> Sequence[int]:
        """Processes that a timeout must spare and whose age will not tell: those of a line that has only just ended."""
        if timeout is None or self._running is None or time.monotonic() - self._idle_since > _BLUR:
            return ()
        return self._running.living()

    def _attend(self, exchange: "_Exchange", deadline: float | None) -> bool:
        """Feed and read the shell until the line is done, the shell ends (both True), or the deadline passes."""
        assert self._running is not None
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(self._report, select.POLLIN)
        poll.register(self._running.fileno(), select.POLLIN)
        if exchange.unsent:
            os.set_blocking(self._input, False)
            poll.register(self._input, select.POLLOUT)
        while True:
            wait = None if deadline is None else (deadline - time.monotonic()) * 1000
            if wait is not None and wait <= 0:
                return False
            ready = {descriptor for descriptor, _ in poll.poll(wait)}
            if self._output in ready:
                data = os.read(self._output, 1 << 18)
                exchange.output.add(data)
                if not data:
                    poll.unregister(self._output)
                elif len(data) == commands.PIPE_SIZE:
                    commands.widen(self._output)
            if self._report in ready and exchange.hear(self._report):
                return True
            if self._running.fileno() in ready:
                exchange.ended = self._running.finish()
                return True
            if self._input in ready and not exchange.tell(self._input):
                poll.unregister(self._input)

    def _conclude(self, exchange: "_Exchange", start: float, complete: bool, timed_out: bool) -> Result:
        """The result of a line; the shell is dropped when it ended or did not come back."""
        assert self._running is not None
        if complete:
            commands.read_rest(self._output, exchange.output)
            os.set_blocking(self._output, True)
        if exchange.ended is not None or not complete:
            self._running.kill()
            self._drop()
        else:
            self._cwd, self._flags = exchange.cwd, exchange.flags
        content = exchange.output.value()
        outcome = exchange.ended or Exit(exchange.status)
        return commands.result_of(outcome, [content], start, timed_out, exchange.output.dropped)


class _Exchange:
    """One line on its way through the shell."""

    def __init__(self, text: bytes, max_output: int, mark: str) -> None:
        self.unsent = memoryview(text)
        self.output = Capped(max_output)
        self.records: list[bytes] = []
        self.status = 0
        self.cwd = ""
        self.flags = ""
        self.ended: Exit | None = None
        self._heard = bytearray()
        self._received = 0
        self._end = _END + mark.encode() + b" "

    def tell(self, descriptor: int) -> bool:
        """Write some of the line; whether more is left."""
        try:
            self.unsent = self.unsent[os.write(descriptor, self.unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.unsent = self.unsent[:0]
        return bool(self.unsent)

    def hear(self, descriptor: int) -> bool:
        """Read reports; whether the one that ends the line is among them, or so much else that the shell must end."""
        try:
            self._heard += os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return False
        *records, self._heard = self._heard.split(b"\0")
        for record in records:
            _, marker, report = bytes(record).rpartition(self._end)  # a command may have written before it
            status, flags, cwd = (*report.split(b" ", 2), b"", b"")[:3]
            if marker and status.isdigit() and len(status) <= 3:
                self.status, self.flags, self.cwd = int(status), os.fsdecode(flags), os.fsdecode(cwd)
                return True
            if not record.startswith(_END):
                self.records.append(bytes(record))
        self._received += sum(map(len, records)) + 64 * len(records)  # what an empty one takes in memory
        if self._received + len(self._heard) <= _MOST_REPORTED:
            return False
        self.output.add(b"\n[the shell was ended: its report was flooded]\n")
        self.ended = Exit(-signal.SIGKILL)
        return True

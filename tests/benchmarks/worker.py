"""Workers: a process of its own for each contender, told over a pipe what to do, and accounted for alone."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.benchmarks.measure import Account, Census, census, settled, written_bytes

PACKAGE = Path(__file__).resolve().parents[2]
_NOBODY = 65534


class WorkerError(RuntimeError):
    """A contender failed at what it was told to do."""


class Worker:
    """This side of a worker.

    Args:
        name: What it is called in accounts and errors.
        command: How it is started.
        folder: Its private folder for temporary files.
        user: The user it runs as; this one by default.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, user: int | None = None) -> None:
        self.name, self.folder = name, folder
        folder.mkdir(parents=True, exist_ok=True)
        env = {"PATH": os.environ["PATH"], "TMPDIR": str(folder), "PYTHONPATH": str(PACKAGE), "HOME": str(folder)}
        env |= {name: os.environ[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG") if name in os.environ}
        env |= {"PYTHONDONTWRITEBYTECODE": "1", "TERM": "dumb", "LANG": "C.UTF-8"}
        who: dict[str, Any] = {}
        if user is not None:
            os.chown(folder, user, user)
            who = {"user": user, "group": user, "extra_groups": []}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=env, cwd="/", **who
        )
        self.account = Account(name.split()[0])
        self.account.enter(self.process.pid)
        try:
            self.ask("ready")
        except WorkerError:
            self.close()
            raise
        self.before: Census = census(self.account, folder, self.process.pid)

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Have something done.

        Raises:
            WorkerError: It failed, or the worker died.
        """
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise WorkerError(f"{self.name}: the worker died during {op!r}: {self._said()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer

    def left(self) -> dict[str, int]:
        """End it, and return what is there without it: nothing of a contender may outlive its client."""
        self._end()
        return settled(self.account, self.folder, self.process.pid, replace(self.before, processes=0))

    def _end(self) -> None:
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """End it."""
        assert self.process.stdout
        self._end()
        self.process.stdout.close()
        self._errors.close()
        self.account.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-500:]


def start(name: str, workload: str, folder: Path, memory: Path, user: int | None = None) -> Worker:
    """Return the worker of a contender.

    Args:
        name: One of `contenders.INSTALL`, or `subprocess`.
        workload: The workload as text.
        folder: Its private folder.
        memory: A folder in memory.
        user: Who it runs as.
    """
    python = sys.executable if user is None else readable_python()
    file = folder / "workload.json"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(workload)
    return Worker(name, [python, "-m", "tests.benchmarks.worker", name, str(file), str(memory)], folder, user)


def readable_python() -> str:
    """Return an interpreter that every user can run; empty when there is none."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            done = subprocess.run(
                [path, "-I", "-c", check], user=_NOBODY, group=_NOBODY, extra_groups=[], cwd="/", capture_output=True
            )
        except OSError:
            continue
        if done.returncode == 0:
            return path
    return ""


# --- the other side ---------------------------------------------------------------------------------------------------


class Bench:
    """What a worker does when it is told to; `Contender` boxes, or a shell to send commands to."""

    def __init__(self, name: str, workload: Path, memory: Path) -> None:
        from tests.benchmarks import contenders
        from tests.benchmarks.workload import Workload

        self._workload = Workload.from_json(workload.read_text())
        self._name = name
        self._contender = None if name == "subprocess" else contenders.make(name, self._workload, memory)
        self._boxes: list[Any] = []
        self._ends: list[Callable[[], None]] = []
        self._shell: Callable[[str], int] | None = None

    def ready(self) -> dict[str, Any]:
        """Say that it runs."""
        return {}

    def open(self, count: int) -> dict[str, Any]:
        """Open boxes, all at the same moment; seconds until the last and until each had answered."""
        assert self._contender
        contender = self._contender
        return together(count, contender.open, self._boxes)

    def written(self) -> dict[str, Any]:
        """Tell the bytes of the host's file systems that one box takes."""
        assert self._contender
        folder = self._contender.folder(self._boxes[0])
        return {"bytes": written_bytes(folder) if folder else 0}

    def close(self) -> dict[str, Any]:
        """Close all boxes, all at the same moment."""
        assert self._contender
        boxes, self._boxes = self._boxes, []
        waiting, contender = iter(boxes), self._contender
        return together(len(boxes), lambda: contender.close(next(waiting)), [])

    def command(self, text: str, times: int, how: str) -> dict[str, Any]:
        """Run a command some times; seconds of each, and bytes that the last one answered."""
        run = self._runner(how)
        each, size = [], 0
        for _ in range(times):
            began = time.perf_counter()
            size = run(text)
            each.append(time.perf_counter() - began)
        return {"each": each, "bytes": size}

    def forget_peak(self) -> dict[str, Any]:
        """Start to count the most memory ever held anew."""
        Path("/proc/self/clear_refs").write_text("5")
        return {}

    def peak(self) -> dict[str, Any]:
        """Tell the most memory held since."""
        text = Path("/proc/self/status").read_text()
        return {"bytes": 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")))}

    def end(self) -> None:
        """Close what is open."""
        for close in reversed(self._ends):
            close()

    def _runner(self, how: str) -> Callable[[str], int]:
        if self._name == "subprocess":
            return lambda text: len(subprocess.run(["bash", "-c", text], capture_output=True).stdout)
        if not self._boxes:
            assert self._contender
            self._boxes.append(self._contender.open())
            self._ends.append(self.close)  # type: ignore[arg-type]
        box = self._boxes[0]
        if how == "run":
            return lambda text: len(box.run(text).stdout)
        if self._shell is None:
            session = box.session()
            self._ends.append(session.close)
            self._shell = lambda text: len(session.run(text).stdout)
        return self._shell


def together(count: int, work: Callable[[], Any], made: list[Any]) -> dict[str, Any]:
    """Do the same in many threads that all start at one moment.

    Args:
        count: How many.
        work: What each does; its values are appended to `made`, those of finished ones even when others fail.
        made: Where they go.

    Returns:
        `wall`: seconds until the last was done; `each`: seconds until each one was.
    """
    barrier = threading.Barrier(count + 1)
    started = [0.0]

    def one(_: int) -> float:
        barrier.wait()
        made.append(work())
        return time.perf_counter() - started[0]

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one, number) for number in range(count)]
        while barrier.n_waiting < count:
            time.sleep(0.001)
        started[0] = time.perf_counter()
        barrier.wait()
        each = [future.result() for future in futures]
    return {"wall": max(each), "each": each}


def serve(bench: Any) -> None:
    """Answer requests from standard input until it ends."""
    for line in sys.stdin:
        request: Mapping[str, Any] = json.loads(line)
        arguments = {name: value for name, value in request.items() if name != "op"}
        try:
            answer = getattr(bench, request["op"])(**arguments)
        except Exception as error:  # the boundary of a foreign program: its failure is reported, the others go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    bench.end()


def main() -> None:
    """Run as a worker: NAME, the workload's file, a folder in memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    name, workload, memory = sys.argv[1:]
    serve(Bench(name, Path(workload), Path(memory)))


if __name__ == "__main__":
    main()

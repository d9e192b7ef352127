"""A worker that drives SWE-ReX; run by the interpreter of an environment that has `swe-rex` and nothing of ours.

Its local runtime is a bash on a terminal without any isolation: what is compared is how commands get in and out of it.
"""

import asyncio
import json
import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


class Bench:
    """What the worker does when it is told to."""

    def __init__(self) -> None:
        from swerex.runtime.local import LocalRuntime  # type: ignore[import-not-found]

        self._logger = logging.getLogger("rex")
        self._logger.addHandler(logging.NullHandler())
        self._logger.propagate = False
        self._runtime = LocalRuntime
        self._boxes: list[Any] = []

    def ready(self) -> dict[str, Any]:
        """Say that it runs."""
        return {}

    def open(self, count: int) -> dict[str, Any]:
        """Open sessions, all at the same moment; seconds until the last and until each had answered."""
        barrier = threading.Barrier(count)

        def one(_: int) -> float:
            barrier.wait()
            began = time.perf_counter()
            self._boxes.append(self._open())
            return time.perf_counter() - began

        with ThreadPoolExecutor(count) as pool:
            each = list(pool.map(one, range(count)))
        return {"wall": max(each), "each": each}

    def written(self) -> dict[str, Any]:
        """Tell that a session writes nothing."""
        return {"bytes": 0}

    def close(self) -> dict[str, Any]:
        """Close all sessions."""
        began = time.perf_counter()
        boxes, self._boxes = self._boxes, []
        for box in boxes:
            asyncio.run(box.close())
        return {"wall": time.perf_counter() - began, "each": []}

    def command(self, text: str, times: int, how: str) -> dict[str, Any]:
        """Run a command some times; seconds of each, and bytes that the last one answered."""
        if not self._boxes:
            self._boxes.append(self._open())
        each, size = [], 0
        for _ in range(times):
            began = time.perf_counter()
            size = len(self._run(self._boxes[0], text))
            each.append(time.perf_counter() - began)
        return {"each": each, "bytes": size}

    def end(self) -> None:
        """Close what is open."""
        self.close()

    def _open(self) -> Any:
        from swerex.runtime.abstract import CreateBashSessionRequest  # type: ignore[import-not-found]

        box = self._runtime(logger=self._logger)
        asyncio.run(box.create_session(CreateBashSessionRequest(startup_source=[], startup_timeout=60)))
        answer = self._run(box, "echo hi")
        if answer.strip() != "hi":
            raise RuntimeError(f"it answered {answer!r}")
        return box

    @staticmethod
    def _run(box: Any, text: str) -> str:
        from swerex.runtime.abstract import BashAction

        return str(asyncio.run(box.run_in_session(BashAction(command=text, timeout=600, check="raise"))).output)


def main() -> None:
    """Answer requests from standard input until it ends."""
    bench = Bench()
    for line in sys.stdin:
        request = json.loads(line)
        operation = request.pop("op")
        try:
            answer = getattr(bench, operation)(**request)
        except Exception as error:  # the boundary of a foreign program: its failure is reported, the others go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    bench.end()


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    main()

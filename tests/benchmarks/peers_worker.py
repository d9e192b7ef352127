"""A worker that makes attempts with SWE-ReX or mini-swe-agent; run by the interpreter of an environment that has them.

An attempt: a clean tree, the given commands, the difference, and nothing left. Neither tool has a way to get a clean
tree without containers, so each gets the cheapest there is: a copy of the files, removed afterwards. In containers the
tree is part of the image.
"""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class MiniSweAgent:
    """mini-swe-agent's local environment: a new process for each command, no isolation."""

    def __init__(self, tree: str) -> None:
        from minisweagent.environments.local import LocalEnvironment

        self._environment = LocalEnvironment(cwd=tree, timeout=600)

    def run(self, command: str) -> str:
        """Run one command."""
        try:
            answer = self._environment.execute({"command": command})
        except (AttributeError, TypeError):  # before version 2 a command was a text
            answer = self._environment.execute(command)
        return str(answer["output"])

    def close(self) -> None:
        """Hold nothing."""


class SweRex:
    """SWE-ReX's local runtime: a bash on a terminal, no isolation."""

    def __init__(self, tree: str) -> None:
        from swerex.runtime.abstract import CreateBashSessionRequest  # type: ignore[import-not-found]
        from swerex.runtime.local import LocalRuntime  # type: ignore[import-not-found]

        logger = logging.getLogger("rex")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._runtime = LocalRuntime(logger=logger)
        asyncio.run(self._runtime.create_session(CreateBashSessionRequest(startup_source=[], startup_timeout=120)))
        self.run(f"cd {tree}")

    def run(self, command: str) -> str:
        """Run one command in the session."""
        from swerex.runtime.abstract import BashAction

        action = BashAction(command=command, timeout=600, check="silent")
        return str(asyncio.run(self._runtime.run_in_session(action)).output)

    def close(self) -> None:
        """End the session."""
        asyncio.run(self._runtime.close())


class MiniSweAgentDocker(MiniSweAgent):
    """mini-swe-agent's Docker environment: a container, and a client of the engine for each command.

    In its favour: no login shell for each command, and a container that ends at once when it is told to.
    """

    def __init__(self, image: str) -> None:
        from minisweagent.environments.docker import DockerEnvironment

        run = ["--rm", "--network", "none", "--volume", "/usr:/usr:ro", "--stop-signal", "KILL"]
        shell = ["bash", "-c"]
        self._environment = DockerEnvironment(image=image, cwd="/testbed", timeout=600, run_args=run, interpreter=shell)

    def close(self) -> None:
        """Remove the container, which goes on while others are made."""
        self._environment.cleanup()


KINDS: dict[str, Any] = {
    "mini-swe-agent local": MiniSweAgent,
    "swe-rex local": SweRex,
    "mini-swe-agent docker": MiniSweAgentDocker,
}


@contextmanager
def clean(kind: Any, tree: str, at: str) -> Iterator[str]:
    """Give what a box is made of: a copy of the tree, or the image that holds it."""
    if kind is MiniSweAgentDocker:
        yield tree
        return
    folder = tempfile.mkdtemp(dir=at)
    try:
        subprocess.run(["cp", "-a", tree, f"{folder}/testbed"], check=True)
        yield f"{folder}/testbed"
    finally:
        shutil.rmtree(folder)


def attempt(kind: Any, tree: str, at: str, commands: list[str], expected: str) -> None:
    """Make one attempt."""
    with clean(kind, tree, at) as start:
        box = kind(start)
        try:
            for command in commands:
                box.run(command)
            said = box.run("git add -A && git diff --cached HEAD")
            if expected not in said:
                raise RuntimeError(f"the attempt has not changed what it should: {said[:300]!r}")
        finally:
            box.close()


def wait_for_the_last(kind: Any, image: str) -> None:
    """Wait until no container is left that was told to end."""
    while kind is MiniSweAgentDocker and subprocess.check_output(
        ["docker", "ps", "--all", "--quiet", "--filter", f"ancestor={image}"]
    ):
        time.sleep(0.05)


def main() -> None:
    """Make all attempts on threads, and say how long that took."""
    what = json.loads(sys.argv[1])
    kind, count = KINDS[what["kind"]], what["attempts"]
    given = [kind, what["tree"], what["at"], what["commands"], what["expected"]]
    attempt(*given)  # what is loaded once is loaded from here on
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    began = time.perf_counter()
    failed: list[str] = []
    with ThreadPoolExecutor(what["workers"]) as pool:
        for future in [pool.submit(attempt, *given) for _ in range(count)]:
            try:
                future.result()
            except Exception as error:  # the boundary of a foreign program: its failures are counted
                failed.append(f"{type(error).__name__}: {error}"[:200])
    wait_for_the_last(kind, what["tree"])
    seconds = time.perf_counter() - began
    sys.stdout.write(json.dumps({"seconds": seconds, "failed": len(failed), "why": failed[:1]}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # some leave threads behind that never end


if __name__ == "__main__":
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    main()

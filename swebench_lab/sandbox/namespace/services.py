"""Services on a box's own loopback: programs that run beside the work, declared when the box is opened."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swebench_lab.errors import SandboxError

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox

_LOG = "/dev/shm/services"  # part of no checkpoint


@dataclass(frozen=True)
class Service:
    """A program that listens in the box, such as `python -m httpbin.core --port 8080`.

    Attributes:
        command: Text for `bash -c`; runs for as long as the box does.
        port: The TCP port on 127.0.0.1 that it answers on once it is ready.
        seconds: How long that may take.
    """

    command: str
    port: int
    seconds: float = 30.0


def start(box: "Sandbox", services: Iterable[Service]) -> None:
    """Start services in a box, all at once, and wait until every one of them answers.

    Raises:
        SandboxError: One ended, or did not answer in time; the message has the end of what it wrote.
    """
    declared = list(services)
    for service in declared:
        log = f"{_LOG}/{service.port}"
        box.run(
            [
                "bash",
                "-c",
                f'mkdir -p {_LOG}; exec >"$1" 2>&1 </dev/null; bash -c "$0" & echo $! >"$1.pid"',
                service.command,
                log,
            ]
        )
    for service in declared:
        _wait(box, service)


def _wait(box: "Sandbox", service: Service) -> None:
    log = f"{_LOG}/{service.port}"
    deadline = time.monotonic() + service.seconds
    knock = f"(: </dev/tcp/127.0.0.1/{service.port}) 2>/dev/null"
    knock = f"until {knock}; do kill -0 $(cat {log}.pid) || exit 1; sleep 0.02; done"
    result = box.run(["bash", "-c", knock], timeout=max(0.1, deadline - time.monotonic()))
    if not result.ok:
        output = box.run(["tail", "-c", "2000", log]).output.strip()
        how = f"did not answer within {service.seconds:g} s" if result.timed_out else "ended"
        raise SandboxError(
            f"start the service {service.command!r} on port {service.port}: it {how}; it wrote: {output or 'nothing'}"
        )

"""A port of a box's own loopback that this process serves: reachable from that box, and nothing else with it."""

import os
import socket
import threading
import warnings
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxUnavailable
from swebench_lab.sandbox.docker.sandbox import open_docker
from swebench_lab.sandbox.local import open_local
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing import conformance
from tests.sandbox.test_docker import needs_engine

TIERS = ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]
KINDS = [*TIERS, pytest.param("docker", marks=needs_engine)]
KNOCK = "exec 3<>/dev/tcp/127.0.0.1/{port} && head -c 5 <&3"


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


def opened(snapshot, kind: str):
    return open_docker(snapshot) if kind == "docker" else open_namespace(snapshot, tier=kind)


def greet(listener: socket.socket, word: bytes) -> threading.Thread:
    """Greet one caller."""

    def serve() -> None:
        with listener.accept()[0] as caller:
            caller.sendall(word)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", KINDS)
def test_programs_of_the_box_reach_this_process_and_nothing_else(snapshot, kind):
    outside = socket.create_server(("127.0.0.1", 0))
    with outside, opened(snapshot, kind) as box, box.listen(13131) as listener:
        assert box.has_listeners and listener.getsockname() == ("127.0.0.1", 13131)
        thread = greet(listener, b"hello")
        assert box.run(KNOCK.format(port=13131)).output == "hello"
        thread.join(5)
        refused = box.run(KNOCK.format(port=outside.getsockname()[1]))
        assert refused.exit_code and "refused" in refused.output
        assert box.run(["getent", "hosts", "example.com"]).exit_code
        assert box.run("exec 3<>/dev/tcp/192.0.2.1/80", timeout=5).exit_code


@pytest.mark.parametrize("kind", KINDS)
def test_every_box_has_the_port_for_itself_and_forks_start_without_it(snapshot, kind):
    with opened(snapshot, kind) as one, opened(snapshot, kind) as two:
        with one.listen(13131) as first, two.listen(13131) as second:
            threads = [greet(first, b"one.."), greet(second, b"two..")]
            assert one.run(KNOCK.format(port=13131)).output == "one.."
            assert two.run(KNOCK.format(port=13131)).output == "two.."
            for thread in threads:
                thread.join(5)
            with one.fork() as fork:
                assert fork.run(KNOCK.format(port=13131)).exit_code, "a fork is a box of its own"
                with fork.listen(13131) as third:
                    greet(third, b"fork.")
                    assert fork.run(KNOCK.format(port=13131)).output == "fork."
        with one.listen(13131) as again:  # the box kept no copy of the socket that was closed
            greet(again, b"again")
            assert one.run(KNOCK.format(port=13131)).output == "again"


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_box_leaves_no_descriptor_and_a_checkpoint_leaves_the_port_open(snapshot, kind):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for round_ in range(3):
        with opened(snapshot, kind) as box, box.listen(13131) as listener:
            box.write("a.txt", str(round_))
            box.checkpoint()
            greet(listener, b"still")
            assert box.run(KNOCK.format(port=13131)).output == "still"
        with pytest.raises(SandboxClosed):
            box.listen(13131)
        if round_ == 0:
            before = len(list(Path("/proc/self/fd").iterdir()))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_that_is_taken_in_the_box_is_an_error_that_names_it(snapshot, kind):
    named = pytest.raises(SandboxError, match="listen on port 4000 of sandbox")
    with opened(snapshot, kind) as box, box.listen(4000), named:
        box.listen(4000)


def test_boxes_without_a_loopback_of_their_own_say_that_they_cannot(snapshot):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local = open_local(snapshot)
    with local, open_namespace(snapshot, network="host") as host:
        for box in (local, host):
            assert not box.has_listeners
            with pytest.raises(SandboxUnavailable, match="no loopback of its own"):
                box.listen(13131)


@pytest.mark.parametrize("kind", KINDS)
def test_a_started_program_runs_beside_others_until_it_is_killed(snapshot, kind):
    reader, writer = os.pipe()
    with opened(snapshot, kind) as box, os.fdopen(reader, "rb") as output:
        running = box.start(["bash", "-c", "echo ready; sleep 600"], writer)
        os.close(writer)
        assert output.readline() == b"ready\n"
        assert box.run("echo beside").output == "beside\n"
        running.kill()
        assert running.finish().status == -9
        running.close()
        assert output.read() == b""

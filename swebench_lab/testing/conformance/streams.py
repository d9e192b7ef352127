"""Streams: byte channels into a box."""

import socket
import threading

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxPathError
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.testing.conformance.kit import Opener, equal, fails, in_a_box, needs, true, with_boxes

_SECONDS = 30.0


def _all_of(stream: socket.socket) -> bytes:
    """What a stream still brings, to its end."""
    stream.settimeout(_SECONDS)
    parts = []
    while data := stream.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def _send_all(stream: socket.socket, data: bytes) -> None:
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)


@in_a_box
def a_stream_is_input_and_output_of_a_program(box: Sandbox) -> None:
    """Bytes go both ways at once, as they are; ending one direction leaves the other."""
    data = bytes(range(256)) * 8000
    with box.stream(["cat"]) as stream:
        sending = threading.Thread(target=_send_all, args=(stream, data))
        sending.start()
        equal(_all_of(stream) == data, True, "what came back is what was sent")
        sending.join()


@in_a_box
def a_stream_keeps_to_the_pace_of_a_talk(box: Sandbox) -> None:
    """Every line is answered before the next is sent: nothing is held back for more."""
    text = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
    with box.stream(["python3", "-c", text]) as stream:
        stream.settimeout(_SECONDS)
        answers = stream.makefile("rb")
        for number in range(20):
            stream.sendall(b"line %d\n" % number)
            equal(answers.readline(), b"LINE %d\n" % number)


@in_a_box
def a_stream_starts_where_it_is_told(box: Sandbox) -> None:
    """The program of a stream has the directory and the variables it is given, on top of the box's."""
    with box.stream(["sh", "-c", "pwd; echo $A-$LANG"], cwd="src", env={"A": "1"}) as stream:
        equal(_all_of(stream), f"{box.workdir}/src\n1-C.UTF-8\n".encode())


@in_a_box
def a_stream_ends_with_its_program(box: Sandbox) -> None:
    """The end of a program is the end of its stream; so it is for one that is not there. The box goes on."""
    with box.stream(["sh", "-c", "echo last"]) as stream:
        equal(_all_of(stream), b"last\n")
    try:
        with box.stream(["no-such-program"]) as stream:
            equal(_all_of(stream), b"")
    except SandboxPathError:
        pass  # some kinds can tell at once
    equal(box.run("echo on").output, "on\n")


@in_a_box
def a_stream_that_nobody_reads_holds_up_nothing_else(box: Sandbox) -> None:
    """A program that writes more than anybody takes waits by itself; commands and other streams go on."""
    with box.stream(["head", "-c", "50000000", "/dev/zero"]) as slow, box.stream(["cat"]) as other:
        other.sendall(b"hello")
        other.shutdown(socket.SHUT_WR)
        equal(_all_of(other), b"hello")
        equal(box.run("echo on", timeout=_SECONDS).output, "on\n")
        equal(len(_all_of(slow)), 50_000_000, "bytes, once they are taken")


@with_boxes
def a_stream_ends_with_its_box(open_box: Opener) -> None:
    """Closing a box ends its streams; none can be opened afterwards."""
    box = open_box()
    with box.stream(["cat"]) as stream:
        stream.sendall(b"x")
        stream.settimeout(_SECONDS)
        equal(stream.recv(1), b"x")
        box.close()
        try:
            rest = _all_of(stream)
        except ConnectionResetError:
            rest = b""
        equal(rest, b"")
    fails(SandboxClosed, lambda: box.stream(["cat"]), "a stream into a closed box")


@needs("own loopback")
@in_a_box
def a_stream_reaches_a_port_of_the_box(box: Sandbox) -> None:
    """A service on the box's own loopback is reached from outside, by several streams."""
    text = (
        "import socketserver, threading, os\n"
        "class Echo(socketserver.StreamRequestHandler):\n"
        "    def handle(self): [self.wfile.write(line.upper()) for line in self.rfile]\n"
        "server = socketserver.ThreadingTCPServer(('127.0.0.1', 0), Echo)\n"
        "open('port', 'w').write(str(server.server_address[1])); os.rename('port', 'ready'); server.serve_forever()"
    )
    box.write("serve.py", text)
    box.run("python3 serve.py >/dev/null 2>&1 & until test -e ready; do sleep 0.01; done", timeout=_SECONDS)
    port = int(box.read("ready"))
    with box.stream(port) as one, box.stream(port) as two:
        for stream, word in ((one, b"one"), (two, b"two")):
            stream.sendall(word + b"\n")
            stream.shutdown(socket.SHUT_WR)
        equal((_all_of(one), _all_of(two)), (b"ONE\n", b"TWO\n"))
    try:
        with box.stream(9) as stream:
            true(not _all_of(stream), "nobody listens there")
    except (ConnectionError, SandboxError):
        pass  # refused, which is as good

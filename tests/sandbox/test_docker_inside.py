"""What a container's two ends are made of, tried without an engine: calls over one connection, the view from inside."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from swebench_lab.sandbox.diffs.changes import index_of
from swebench_lab.sandbox.docker import work_tree
from swebench_lab.sandbox.docker.mux import Call, Gone, Mux
from swebench_lab.sandbox.docker.touched import touched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the ends of a container's connection are on Linux")


class Ends:
    """Two ends of one connection; what is asked is answered by a function, on a thread for each call."""

    def __init__(self, answer):
        self.ours, self.theirs = socket.socketpair()
        self.mux = Mux(lambda: self.ours.recv(1 << 16), self.ours.sendall)
        serve = lambda call: threading.Thread(target=self._serve, args=(answer, call), daemon=True).start()  # noqa: E731
        self._other = Mux(lambda: self.theirs.recv(1 << 16), self.theirs.sendall, serve)
        for mux in (self.mux, self._other):
            threading.Thread(target=mux.run, daemon=True).start()

    @staticmethod
    def _serve(answer, call: Call) -> None:
        try:
            call.end(answer(call))
        except Gone:
            pass

    def close(self) -> None:
        for end in (self.ours, self.theirs):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def echo():
    def answer(call: Call):
        for piece in call.pieces():
            call.write(piece.upper())
        return {"op": call.request["op"]}

    ends = Ends(answer)
    yield ends
    ends.close()


def test_a_call_has_a_body_an_answer_and_a_result(echo):
    call = echo.mux.call({"op": "shout"}, without_body=False)
    call.write(b"some ")
    call.write(b"words")
    call.end()
    assert b"".join(call.pieces()) == b"SOME WORDS"
    assert call.result == {"op": "shout"}


def test_calls_at_once_do_not_mix_and_one_that_nobody_reads_holds_up_none(echo):
    stuck = echo.mux.call({"op": "stuck"}, without_body=False)
    writing = threading.Thread(target=lambda: [stuck.write(b"x" * 100_000) for _ in range(20)], daemon=True)
    writing.start()
    for number in range(20):
        call = echo.mux.call({"op": str(number)}, without_body=False)
        call.write(f"text {number}".encode() * 1000)
        call.end()
        assert b"".join(call.pieces(time.monotonic() + 20)) == f"TEXT {number}".encode() * 1000
    assert writing.is_alive(), "it waits for room"
    taken = 0
    while taken < 2_000_000:
        taken += len(stuck.read(time.monotonic() + 20))
    writing.join(20)
    stuck.end()
    assert list(stuck.pieces(time.monotonic() + 20)) == []


def test_an_answer_that_does_not_come_is_a_time_out_and_a_connection_that_ends_says_so():
    release = threading.Event()
    ends = Ends(lambda call: (release.wait(20) and {}) or {})
    call = ends.mux.call({"op": "wait"})
    with pytest.raises(TimeoutError):
        call.read(time.monotonic() + 0.05)
    ends.close()
    with pytest.raises(Gone):
        call.read(time.monotonic() + 20)
    with pytest.raises(Gone):
        ends.mux.call({"op": "late"})
    release.set()


def test_who_gives_up_is_heard_at_the_other_end():
    heard = threading.Event()

    def answer(call: Call):
        call.on_cancel = heard.set
        call.write(b"started")
        heard.wait(20)
        call.write(b"x" * 10_000_000)  # nobody wants it: this must not wait for room
        return {}

    ends = Ends(answer)
    call = ends.mux.call({"op": "long"})
    assert call.read(time.monotonic() + 20) == b"started"
    call.cancel()
    assert heard.wait(20)
    ends.close()


def test_a_pump_carries_both_ways_and_ends_each_by_itself(echo):
    call = echo.mux.call({"op": "pump"}, without_body=False)
    ours, theirs = socket.socketpair()
    threading.Thread(target=call.pump, args=(theirs,), daemon=True).start()
    ours.sendall(b"hello")
    ours.shutdown(socket.SHUT_WR)
    ours.settimeout(20)
    assert ours.makefile("rb").read() == b"HELLO"


# --- the work tree ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A work tree whose files are older than the box, and the list of those that git follows."""
    monkeypatch.setattr(work_tree, "_moves_no_directories", lambda: True)  # that needs an overlay as the root
    for name in ("a.py", "b.py", "src/c.py", "src/deep/d.py", "old/e.py"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    git = tmp_path / "git"
    (git / "info").mkdir(parents=True)
    (git / "info" / "exclude").write_text("__pycache__/\n")
    names = (b"a.py", b"b.py", b"src/c.py", b"src/deep/d.py", b"old/e.py")
    (git / "index").write_bytes(index_of(names))
    time.sleep(0.2)
    return tmp_path / "tree", git, work_tree.Clock()


def _touched(tree: tuple[Path, Path, work_tree.Clock]):
    return touched(work_tree.look(str(tree[0]), tree[2]), tree[1])


def test_an_untouched_tree_has_no_changes(tree):
    assert not _touched(tree)


def test_changes_are_found_whatever_their_time_stamps_say(tree):
    top = tree[0]
    status = (top / "a.py").stat()
    (top / "a.py").write_text("x = 2\n")
    os.utime(top / "a.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    (top / "src" / "deep" / "d.py").chmod(0o755)
    (top / "new").write_text("")
    (top / "b.py").rename(top / "moved.py")
    found = _touched(tree)
    assert found.written == {b"a.py", b"src/deep/d.py", b"new", b"moved.py"}
    assert found.gone == {b"b.py"} and not found.odd


def test_what_is_gone_or_became_something_else_is_found(tree):
    top = tree[0]
    (top / "src" / "deep" / "d.py").unlink()
    (top / "src" / "deep").rmdir()
    (top / "a.py").unlink()
    (top / "a.py").mkdir()
    (top / "old" / "e.py").unlink()
    (top / "old").rmdir()
    (top / "old").write_text("a file now")
    os.mkfifo(top / "pipe")
    found = _touched(tree)
    assert found.gone >= {b"src/deep", b"a.py", b"pipe"} and b"old" in found.written
    assert found.odd


def test_compiled_modules_and_repositories_are_passed_over(tree):
    (tree[0] / "src" / "__pycache__").mkdir()
    (tree[0] / "src" / "__pycache__" / "c.pyc").write_text("")
    (tree[0] / ".git").mkdir()
    (tree[0] / ".git" / "config").write_text("")
    assert _touched(tree).written == set()


def test_where_times_do_not_tell_git_looks_for_itself(tree, monkeypatch):
    (tree[0] / ".gitignore").write_text("*.py\n")
    assert _touched(tree) is None, "rules about ignoring changed"
    (tree[0] / ".gitignore").unlink()
    monkeypatch.setattr(tree[2], "_apart", tree[2]._apart + 3600 * 10**9)
    assert _touched(tree) is None, "the clock was set back"


def test_a_root_that_moves_directories_is_no_ground_for_a_list(monkeypatch):
    mounts = "22 1 0:20 / / rw - {} x rw,lowerdir=a{}\n"
    for kind, options, expected in (
        ("overlay", ",redirect_dir=on", False),
        ("overlay", ",redirect_dir=off", True),
        ("ext4", "", False),
    ):
        text = mounts.format(kind, options)
        monkeypatch.setattr("builtins.open", lambda *_, t=text, **__: io.StringIO(t))
        result = work_tree._moves_no_directories()
        monkeypatch.undo()
        assert result is expected


def test_the_program_of_containers_begins_without_the_library():
    """It starts in every container, so what it loads is small: none of what only the outside needs."""
    from swebench_lab.sandbox.docker import agent

    text = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='agent'); print(*sys.modules)"
    stub = "import sys, os; sys.modules['swebench_lab'] = m = type(sys)('swebench_lab'); m.__path__ = [sys.argv[2]]; "
    package = str(Path(agent.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", stub + text, agent.__file__, package], capture_output=True, text=True
    )
    modules = set(done.stdout.split())
    assert "swebench_lab.sandbox.descriptors" in modules, done.stderr
    assert not modules & {"swebench_lab.sandbox.contract", "swebench_lab.sandbox.checkpoints", "docker", "asyncio"}

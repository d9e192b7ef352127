"""The box as data: planned without effect, told in words, carried as JSON, and executed without following links."""

import json
import os
from pathlib import Path

import pytest

from swebench_lab.sandbox.linux import kernel, seccomp
from swebench_lab.sandbox.zygote import layout, plan
from swebench_lab.sandbox.zygote.layout import Copy, Dir, File, Symlink

EXAMPLES = [
    Dir("/a", 0o700),
    File("/a/b", "text"),
    Symlink("/c", "a"),
    layout.Overlay("/root", ("/x", "/y"), "/u", "/w", True),
    layout.Bind("/usr", "/usr"),
    layout.Tmpfs("/t", 4096, 0o1777),
    layout.Proc("/proc"),
    layout.Mask("/proc/kcore"),
    layout.Dev("/sys/dev", "/dev", 1 << 20),
    layout.Devices("/dev"),
    Copy("/etc/services", "/etc/services"),
]


@pytest.fixture
def root(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_a_layout_survives_the_wire():
    again = layout.from_wire(json.loads(json.dumps(layout.to_wire(EXAMPLES))))
    assert [type(operation) for operation in again] == [type(operation) for operation in EXAMPLES]
    assert layout.describe(again) == layout.describe(EXAMPLES)


def test_every_operation_describes_itself_in_one_line():
    lines = layout.describe(EXAMPLES).split("\n")
    assert len(lines) == len(EXAMPLES) and all(lines)
    assert "/x" not in lines[3] and "2 layers" in lines[3]


def test_a_whole_box_can_be_told_before_anything_is_made(tmp_path):
    before = sorted(tmp_path.iterdir())
    told = layout.describe([*plan.base([tmp_path]), *plan.box([tmp_path], None, 1 << 20, "none")])
    assert f"{tmp_path} on {tmp_path}, read-only" in told
    assert "own process table on /proc, read-only" in told
    assert sorted(tmp_path.iterdir()) == before


def test_equal_plans_have_equal_keys_and_others_do_not(tmp_path):
    assert plan.base_key(plan.base([tmp_path])) == plan.base_key(plan.base([tmp_path]))
    assert plan.base_key(plan.base([tmp_path])) != plan.base_key(plan.base([tmp_path, Path("/opt/other")]))


def test_directories_files_and_links_are_made(root, tmp_path):
    layout.execute([Dir("/d", 0o751), Dir("/d"), File("/d/f", "hello", 0o600), Symlink("/d/l", "f")], root)
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o751
    assert (tmp_path / "d" / "l").read_text() == "hello"


@pytest.mark.parametrize("operation", [Dir("/out/new"), File("/out/new", "x"), Symlink("/out/new", "x")])
def test_nothing_is_made_through_a_link(root, tmp_path, operation):
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "out").symlink_to(outside)
    with pytest.raises(OSError, match="openat2 out"):
        layout.execute([operation], root)
    assert not list(outside.iterdir())


def test_an_error_names_the_operation_it_stopped_at(root):
    with pytest.raises(FileNotFoundError, match=r"file /missing/f \(1 characters\)"):
        layout.execute([File("/missing/f", "x")], root)


def test_a_copy_keeps_links_and_leaves_out_what_is_missing(root, tmp_path):
    source = tmp_path.parent / f"{tmp_path.name}-source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "f").write_text("x")
    (source / "l").symlink_to("/nowhere")
    layout.execute([Copy(str(source), "/copy"), Copy(f"{source}/missing", "/missing")], root)
    assert (tmp_path / "copy" / "sub" / "f").read_text() == "x"
    assert (tmp_path / "copy" / "l").readlink() == Path("/nowhere")
    assert not (tmp_path / "missing").exists()


def test_records_are_values():
    assert Dir("/a") == Dir("/a") != Dir("/b")
    assert len({Dir("/a"), Dir("/a")}) == 1
    assert repr(Dir("/a")) == "Dir(at='/a', mode=493)"
    with pytest.raises(AttributeError):
        Dir("/a").at = "/b"
    with pytest.raises(TypeError, match="needs at"):
        Dir()
    with pytest.raises(TypeError, match="has the fields"):
        Dir("/a", colour=1)


def test_paths_beneath_are_opened_and_others_are_not(root, tmp_path):
    (tmp_path / "d").mkdir()
    os.close(kernel.open_beneath(root, "/d"))
    for path in ("../", "d/../..", "missing"):
        with pytest.raises(OSError, match="openat2"):
            kernel.open_beneath(root, path)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_a_program_whose_jumps_land_inside(machine):
    program = seccomp.program(machine)
    count = len(program) // 8
    assert len(program) % 8 == 0 and 0 < count <= 4096
    for index in range(count):
        code, if_true, if_false = (
            int.from_bytes(program[index * 8 : index * 8 + 2], "little"),
            *program[index * 8 + 2 : index * 8 + 4],
        )
        if code & 7 == 5:
            assert index + 1 + max(if_true, if_false) < count
    assert program[-8:-6] == b"\x06\x00"


def test_an_unknown_machine_has_no_filter():
    assert seccomp.program("riscv64") == b""

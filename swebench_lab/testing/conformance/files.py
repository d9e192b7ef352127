"""Files: in, out, and never past the walls."""

import os
import tempfile
from functools import partial
from pathlib import Path

from swebench_lab.errors import SandboxPathError
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.testing.conformance.kit import FILES, equal, fails, in_a_box, needs, true


@in_a_box
def files_are_read_as_they_are(box: Sandbox) -> None:
    """Text and bytes are read; a relative path is below the work tree, an absolute one is the box's."""
    equal(box.read("README.md"), FILES["README.md"][0])
    equal(box.read_bytes("data.bin"), FILES["data.bin"][0])
    equal(box.read(f"{box.workdir}/src/app.py"), FILES["src/app.py"][0])


@in_a_box
def a_file_larger_than_wanted_is_refused(box: Sandbox) -> None:
    """A file that is mostly a hole fills nobody's memory: more than asked for is an error, and the box goes on."""
    box.run("truncate -s 3G hole; head -c 100 /dev/zero > small")
    refused = fails(SandboxPathError, lambda: box.read("hole"), "reading three gigabytes")
    true("hole" in str(refused) and "most=" in str(refused), f"it is named, and what to do: {refused}")
    fails(SandboxPathError, lambda: box.read_bytes("small", most=99), "one byte more than may be read")
    equal(box.read_bytes("small", most=100), bytes(100))


@in_a_box
def files_are_written_as_given(box: Sandbox) -> None:
    """Writing makes the directories above, replaces what is there, and keeps every byte."""
    data = bytes(range(256)) * 1000
    box.write("new/deep/file.bin", data)
    equal(box.read_bytes("new/deep/file.bin"), data)
    box.write("new/deep/file.bin", "short")
    equal(box.run("cat new/deep/file.bin").output, "short")


@in_a_box
def modes_can_be_given(box: Sandbox) -> None:
    """A mode given with a file is the one it has."""
    box.write("tool", "#!/bin/sh\necho tool\n", mode=0o755)
    equal(box.run("./tool; stat -c %a tool").output, "tool\n755\n")


@in_a_box
def a_directory_is_listed(box: Sandbox) -> None:
    """Names are sorted; directories are marked."""
    names = box.list()
    true({".gitignore", "README.md", "src/"} <= set(names) and names == sorted(names), f"listing: {names}")
    equal(box.list("src"), ["app.py", "run.sh"])


@in_a_box
def what_is_not_there_is_an_error_that_names_it(box: Sandbox) -> None:
    """A missing file or directory is a path error with its name."""
    for call in (lambda: box.read("no/such"), lambda: box.list("no/such")):
        error = fails(SandboxPathError, call, "a missing path")
        true("no/such" in str(error), f"the message names it: {error}")


@in_a_box
def what_is_no_regular_file_is_refused(box: Sandbox) -> None:
    """Directories, pipes and devices are neither read nor written, and nothing waits for them."""
    box.run("mkfifo pipe")
    for path in ("src", "pipe", "/dev/zero"):
        fails(SandboxPathError, partial(box.read, path), path)
    for path in ("src", "pipe"):
        fails(SandboxPathError, partial(box.write, path, "x"), path)


@needs("sealed host")
@in_a_box
def links_are_followed_inside_the_box_only(box: Sandbox) -> None:
    """A link to the host's path leads to the box's file of that name, not to the host's."""
    with tempfile.TemporaryDirectory(prefix="swebench-lab-outside-") as folder:
        outside = Path(folder) / "secret"
        outside.write_text("host")
        box.run(f"ln -s {outside} out; ln -s {folder} outdir; ln -s ../../../../../../{outside} up")
        for path in ("out", "outdir/secret", "up"):
            fails(SandboxPathError, partial(box.read, path), f"reading through {path}")
        fails(SandboxPathError, lambda: box.write("out", "changed"), "writing through a link to a missing directory")
        equal(outside.read_text(), "host")
        equal(box.read("link"), FILES["README.md"][0])


@needs("own root")
@in_a_box
def a_path_cannot_climb_out(box: Sandbox) -> None:
    """Dots lead to the box's root at most."""
    box.write("/tmp/here", "box")
    equal(box.read("../../../../../../tmp/here"), "box")


@in_a_box
def a_file_is_uploaded_and_downloaded(box: Sandbox) -> None:
    """A file arrives with its bytes both ways, and with its mode in the box."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.write_bytes(b"\x00\x01" * 70_000)
        source.chmod(0o755)
        box.upload(source, "up/there")
        equal(box.run("stat -c '%a %s' up/there").output, "755 140000\n")
        box.download("up/there", Path(folder) / "back")
        equal((Path(folder) / "back").read_bytes(), source.read_bytes())


@in_a_box
def a_directory_is_uploaded_and_downloaded(box: Sandbox) -> None:
    """A directory arrives with what is in it, both ways."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "sub" / "file").write_text("content")
        (tree / "link").symlink_to("sub/file")
        box.upload(tree, "up")
        equal(box.run("cat up/link; readlink up/link").output, "contentsub/file\n")
        box.download("up", Path(folder) / "back")
        equal((Path(folder) / "back" / "link").read_text(), "content")


@in_a_box
def a_download_writes_nothing_outside_its_target(box: Sandbox) -> None:
    """Links that lead out are left behind, whatever the box put into the tree."""
    with tempfile.TemporaryDirectory() as folder:
        box.run(
            f"mkdir bad; ln -s {folder} bad/out; ln -s ../../.. bad/up; ln -s /etc/passwd bad/passwd; "
            "ln -s . bad/self; echo good > bad/good"
        )
        box.download("bad", Path(folder) / "back")
        back = Path(folder) / "back"
        equal((back / "good").read_text(), "good\n")
        for name in os.listdir(back):
            true((back / name).resolve().is_relative_to(back.resolve()), f"{name} stays inside")


@in_a_box
def a_full_box_says_so(box: Sandbox) -> None:
    """A path with characters that no path can have is an error, not a crash."""
    fails(SandboxPathError, lambda: box.read("a\0b"), "a NUL in a path")


@in_a_box
def odd_names_are_kept(box: Sandbox) -> None:
    """Names with spaces, newlines, quotes and non-ASCII characters work."""
    for name in ("with space", "new\nline", "quo'te\"", "é ü", "-dash", "$(x)"):
        box.write(f"odd/{name}", name)
        equal(box.read(f"odd/{name}"), name)
    equal(len(box.list("odd")), 6)

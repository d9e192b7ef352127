"""Contenders: the ways to get a private machine with an environment in it, each as `open` and `close` of one box.

They live in worker processes (`worker.py`), one for each contender. `open` returns when the first command, `echo hi`,
has been answered. Where a way leaves freedom, the fast choice is taken for it; what that was is said in its docstring.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import tarfile
import tempfile
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.benchmarks.workload import Workload

GREETING = "echo hi"


class Contender(Protocol):
    """One way to make boxes; safe to be used by many threads."""

    def open(self) -> Any:
        """Make a box and have it answer its first command."""

    def close(self, box: Any) -> None:
        """End the box and remove what it wrote."""

    def folder(self, box: Any) -> Path | None:
        """Return where the box's files are on the host, if they are on the host."""


class Ours:
    """The `namespace` backend with its defaults: every limit, the system call filter, writes in memory.

    Args:
        workload: What boxes start from.
        tier: `namespace-root` or `namespace-rootless`.
    """

    def __init__(self, workload: Workload, tier: str) -> None:
        self._snapshot, self._tier = workload.snapshot(), tier

    def open(self) -> Any:
        """Open a sandbox and run the command."""
        from swebench_lab.sandbox.namespace.sandbox import open_namespace

        box = open_namespace(self._snapshot, tier=self._tier)
        _expect(box.run(GREETING).stdout)
        return box

    def close(self, box: Any) -> None:
        """Close it."""
        box.close()

    def folder(self, box: Any) -> Path | None:
        """Return nothing: all of it is in the box's own memory."""
        return None


class Extract:
    """Archives extracted for every box, then a mount namespace, bind mounts, chroot and bash on a terminal.

    Written after what container-free predecessors do: a tree of its own for every box, in the folder for temporary
    files. In its favour: it has none of the fixed pauses that terminal libraries insert, and one variant extracts into
    memory. It isolates neither processes nor network.

    Args:
        workload: What boxes start from.
        at: Folder for the extracted files.
        native: Extract with `tar` and its own process instead of Python's tarfile, which the predecessors use.
    """

    READ_ONLY = ("bin", "sbin", "lib", "lib64", "usr", "etc", "opt", "root", "run", "var")
    WRITABLE = ("dev", "proc", "sys", "tmp")

    def __init__(self, workload: Workload, at: Path, native: bool = False) -> None:
        self._archives, self._at, self._native = workload.archives, at, native
        binds = [f"mount -o bind,ro /{name} $0/{name}" for name in self.READ_ONLY if Path("/", name).exists()]
        binds += [f"mount --rbind /{name} $0/{name}" for name in self.WRITABLE]
        places = " ".join(f"$0/{name}" for name in (*self.READ_ONLY, *self.WRITABLE))
        shell = "exec chroot $0 /bin/bash --norc --noprofile --noediting"
        self._script = "; ".join(["set -e", f"mkdir -p {places}", *binds, shell])

    def open(self) -> Any:
        """Extract, enter, and type the command."""
        root = Path(tempfile.mkdtemp(dir=self._at, prefix="extracted-"))
        for archive in self._archives:
            if self._native:
                subprocess.run(["tar", "-xzf", archive, "-C", str(root)], check=True)
            else:
                with tarfile.open(archive) as packed:
                    packed.extractall(root)
        ours, theirs = pty.openpty()
        settings = termios.tcgetattr(theirs)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, settings)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", self._script, str(root)]
        shell = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "PS1": ""}, start_new_session=True
        )
        os.close(theirs)
        os.write(ours, f"{GREETING}\n".encode())
        answer = b""
        while b"hi\r\n" not in answer:
            answer += os.read(ours, 4096)
        return root, shell, ours

    def close(self, box: Any) -> None:
        """Kill the shell, which ends its mounts, and remove the tree."""
        root, shell, terminal = box
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        os.close(terminal)
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)

    def folder(self, box: Any) -> Path | None:
        """Return the extracted tree."""
        return Path(box[0])


class _Layered:
    """A sized tmpfs and an overlay over the workload's layers for every box, mounted by system calls in this process.

    That is the same root file system as our boxes have, and the cheapest way to get it to a program that has none.
    """

    def __init__(self, workload: Workload) -> None:
        from swebench_lab.sandbox.linux import kernel
        from swebench_lab.sandbox.zygote import layout, plan

        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.make_mounts_private()
        self._workload = workload
        self._top = Path(tempfile.mkdtemp(prefix="layered-"))
        self._bottom = self._top / "bottom"
        self._bottom.mkdir()
        binds = plan.outside_usr(map(Path, workload.binds))
        at = os.open(self._bottom, os.O_RDONLY)
        layout.execute(plan.base(binds), at)
        os.close(at)
        self._operations = plan.box(binds, Path(workload.git_dir), 256 << 20, "none")

    def _mount(self) -> Path:
        """Return a new box's folder; its root file system is mounted at `root` in it."""
        from swebench_lab.sandbox.linux import kernel
        from swebench_lab.sandbox.zygote import layout

        folder = Path(tempfile.mkdtemp(dir=self._top))
        at = os.open(folder, os.O_RDONLY)
        lower = (*self._workload.layers, str(self._bottom))
        for name in ("box", "root"):
            os.mkdir(name, dir_fd=at)
        layout.Tmpfs("box", size=4 << 30).execute(at)
        for name in ("upper", "work"):
            (folder / "box" / name).mkdir()
        options = f"lowerdir={':'.join(lower)},upperdir={folder}/box/upper,workdir={folder}/box/work"
        kernel.mount_overlay(str(folder / "root"), options)
        os.close(at)
        return folder

    def _unmount(self, folder: Path) -> None:
        for name in ("root", "box"):
            _umount(folder / name)
        for name in ("root", "box"):
            (folder / name).rmdir()
        shutil.rmtree(folder)

    def folder(self, box: Any) -> Path | None:
        """Return nothing: what it writes is in memory."""
        return None


class Bwrap(_Layered):
    """Bubblewrap.

    Args:
        workload: What boxes start from.
        same: Everything our own layout plans is asked of it too (read-only and hidden parts of /proc, capabilities, the
            system call filter); otherwise only namespaces, /usr, /proc and /dev.
    """

    def __init__(self, workload: Workload, same: bool) -> None:
        super().__init__(workload)
        self._same = same

    def open(self) -> Any:
        """Start bash in it, reading from a pipe."""
        folder = self._mount()
        passed: tuple[int, ...] = ()
        if self._same:
            passed = (_filter(),)
        command = [*self._arguments(folder / "root", passed), "bash", "--norc", "--noprofile"]
        shell = _piped(command, passed)
        for descriptor in passed:
            os.close(descriptor)
        _greet(shell)
        return folder, shell

    def close(self, box: Any) -> None:
        """Kill it and unmount."""
        folder, shell = box
        _end(shell)
        self._unmount(folder)

    def _arguments(self, root: Path, passed: Sequence[int]) -> list[str]:
        from swebench_lab.sandbox.zygote import plan

        words = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
        words += ["--new-session", "--hostname", plan.HOSTNAME, "--clearenv", "--bind", str(root), "/"]
        for operation in self._operations:
            words += self._operation(operation)
        if self._same:
            words += ["--remount-ro", "/proc"]
        for name, value in {**plan.ENVIRONMENT, **self._workload.env}.items():
            words += ["--setenv", name, value]
        if self._same:
            words += ["--cap-drop", "ALL", "--seccomp", str(passed[0])]
            for name in _CAPABILITIES:
                words += ["--cap-add", name]
        return [*words, "--chdir", plan.WORKDIR]

    def _operation(self, operation: Any) -> list[str]:
        """Return one operation of our layout in its words."""
        match type(operation).__name__:
            case "Bind":
                return ["--bind" if operation.writable else "--ro-bind", operation.source, operation.at]
            case "Proc":
                return ["--proc", operation.at]
            case "Dev":
                return ["--dev", operation.at, "--tmpfs", f"{operation.at}/shm"]
            case "Mask" if self._same and Path(operation.at).is_dir():
                return ["--tmpfs", operation.at, "--remount-ro", operation.at]
            case "Mask" if self._same and Path(operation.at).exists():
                return ["--ro-bind", "/dev/null", operation.at]
        return []


class Runc(_Layered):
    """The OCI runtime below Docker and Podman, called directly: no daemon, no image, no network set-up."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        shape = self._top / "shape"
        shape.mkdir()
        subprocess.run(["runc", "spec", "-b", str(shape)], check=True, capture_output=True)
        self._config = json.loads((shape / "config.json").read_text())
        self._state = self._top / "state"

    def open(self) -> Any:
        """Run bash in a container, reading from a pipe."""
        from swebench_lab.sandbox.zygote import plan

        folder = self._mount()
        config = json.loads(json.dumps(self._config))
        env = [f"{name}={value}" for name, value in {**plan.ENVIRONMENT, **self._workload.env}.items()]
        config["process"] |= {"terminal": False, "args": ["bash", "--norc", "--noprofile"], "env": env}
        config["process"]["cwd"] = plan.WORKDIR
        config["root"] = {"path": str(folder / "root"), "readonly": False}
        for path in ("/usr", *self._workload.binds):
            mount = {"destination": path, "source": path, "type": "bind", "options": ["rbind", "ro"]}
            config["mounts"].append(mount)
        (folder / "config.json").write_text(json.dumps(config))
        shell = _piped(["runc", "--root", str(self._state), "run", "-b", str(folder), folder.name], ())
        _greet(shell)
        return folder, shell

    def close(self, box: Any) -> None:
        """Delete the container and unmount."""
        folder, shell = box
        command = ["runc", "--root", str(self._state), "delete", "--force", folder.name]
        subprocess.run(command, check=True, capture_output=True)
        _end(shell)
        self._unmount(folder)


class Docker:
    """Containers of a Docker engine, from an image of the layers with the host's /usr mounted; no network.

    In its favour: a connection to the engine stays attached as the shell's pipe, so a command costs no new process.
    """

    IMAGE = "swebench-lab-benchmark"

    def __init__(self, workload: Workload) -> None:
        tree = Path(tempfile.mkdtemp(prefix="image-"))
        for layer in workload.layers:
            shutil.copytree(layer, tree, symlinks=True, dirs_exist_ok=True)
        (tree / "usr").mkdir()
        for name in ("bin", "sbin", "lib", "lib64"):
            (tree / name).symlink_to(f"usr/{name}")
        with subprocess.Popen(["tar", "-C", str(tree), "-cf", "-", "."], stdout=subprocess.PIPE) as packed:
            command = ["docker", "import", "-", self.IMAGE]
            subprocess.run(command, stdin=packed.stdout, check=True, capture_output=True)
        shutil.rmtree(tree)

    def open(self) -> Any:
        """Run bash in a container, reading from a pipe."""
        command = ["docker", "run", "--rm", "--interactive", "--network", "none", "--workdir", "/testbed"]
        shell = _piped([*command, "--volume", "/usr:/usr:ro", self.IMAGE, "/bin/bash", "--norc", "--noprofile"], ())
        _greet(shell)
        return shell

    def close(self, box: Any) -> None:
        """End the shell, with which the container goes."""
        box.stdin.write(b"exit\n")
        box.wait()
        _end(box)

    def folder(self, box: Any) -> Path | None:
        """Return nothing: where the engine keeps it is its own matter."""
        return None


_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_NET_BIND_SERVICE",
)  # fmt: skip


def make(name: str, workload: Workload, memory: Path) -> Contender:
    """Return a contender by name.

    Args:
        name: One of `INSTALL`.
        workload: What boxes start from.
        memory: Folder in memory, for what extracts.
    """
    made: Mapping[str, Callable[[], Contender]] = {
        "ours (root)": lambda: Ours(workload, "namespace-root"),
        "ours (rootless)": lambda: Ours(workload, "namespace-rootless"),
        "tar-extract": lambda: Extract(workload, Path(tempfile.gettempdir())),
        "tar-extract (in memory)": lambda: Extract(workload, memory),
        "tar-extract (in memory, native tar)": lambda: Extract(workload, memory, native=True),
        "bwrap": lambda: Bwrap(workload, same=True),
        "bwrap (plain)": lambda: Bwrap(workload, same=False),
        "runc": lambda: Runc(workload),
        "docker": lambda: Docker(workload),
    }
    return made[name]()


INSTALL: Mapping[str, str] = {
    "ours (root)": "",
    "ours (rootless)": "",
    "tar-extract": "",
    "tar-extract (in memory)": "",
    "tar-extract (in memory, native tar)": "",
    "bwrap": "apt-get install bubblewrap",
    "bwrap (plain)": "apt-get install bubblewrap",
    "runc": "apt-get install runc",
    "docker": "start a Docker engine: https://docs.docker.com/engine/install",
}
"""Every contender, with how to get it where it is not part of the package."""


def is_root() -> bool:
    """Return whether this process is root."""
    return os.geteuid() == 0


def missing(name: str) -> str:
    """Return why a contender cannot take part on this machine; empty when it can."""
    program = name.split()[0]
    if program in ("bwrap", "runc", "docker") and not shutil.which(program):
        return f"not installed: {INSTALL[name]}"
    if program == "docker" and subprocess.run(["docker", "info"], capture_output=True).returncode:
        return f"no engine answers: {INSTALL[name]}"
    if name != "ours (rootless)" and program != "docker" and not is_root():
        return "needs root: run the benchmark with sudo"
    return ""


def _piped(command: Sequence[str], passed: Sequence[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=passed, bufsize=0
    )


def _greet(shell: subprocess.Popen[bytes]) -> None:
    assert shell.stdin and shell.stdout and shell.stderr
    shell.stdin.write(f"{GREETING}\n".encode())
    answer = shell.stdout.readline()
    if answer != b"hi\n":
        raise RuntimeError(f"it answered {answer!r}: {shell.stderr.read().decode(errors='replace').strip()}")


def _end(shell: subprocess.Popen[bytes]) -> None:
    shell.kill()
    shell.wait()
    for pipe in (shell.stdin, shell.stdout, shell.stderr):
        assert pipe
        pipe.close()


def _expect(answer: bytes) -> None:
    if answer != b"hi\n":
        raise RuntimeError(f"it answered {answer!r}")


def _filter() -> int:
    """Return a descriptor of our own system call filter, as bwrap wants it."""
    from swebench_lab.sandbox.linux import seccomp, wire

    return wire.memory_file(seccomp.program())


_unmounting = threading.Lock()


def _umount(path: Path) -> None:
    """Unmount at once, whoever still looks into it."""
    import ctypes

    detach = 2
    with _unmounting:
        if ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(path), detach):
            raise OSError(ctypes.get_errno(), f"umount {path}")

"""Walls: what a box cannot see, reach or change."""

import os
import socket
import tempfile
import threading
from pathlib import Path

from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.testing.conformance.kit import Opener, equal, in_a_box, needs, true, with_boxes

_ATTEMPT = "python3 -c {!r}"


def _python(box: Sandbox, text: str) -> str:
    return box.run(["python3", "-c", text], timeout=30).output.strip()


@needs("own processes")
@in_a_box
def processes_of_the_host_are_invisible(box: Sandbox) -> None:
    """A box sees its own processes and its first one, and cannot signal any other."""
    numbers = [name for name in box.list("/proc") if name.rstrip("/").isdigit()]
    few = 2 if "hidden first process" in box.capabilities else 4  # a shell lists them, below what started it
    true(len(numbers) <= few, f"processes: {numbers}")
    result = box.run(f"kill -0 {os.getpid()}")
    true(not result.ok, "the process that opened the box cannot be signalled")


@needs("hidden first process")
@in_a_box
def the_first_process_is_out_of_reach(box: Sandbox) -> None:
    """The process that serves the box cannot be killed, traced or read from inside."""
    box.run("kill -9 1; kill -TERM 1; kill -INT 1; kill -CHLD 1")
    equal(
        _python(box, "import os\ntry: print(os.listdir('/proc/1/cwd'))\nexcept OSError as e: print('refused')"),
        "refused",
    )
    for path in ("/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/1/root/etc"):
        true(not box.run(f"cat {path}").ok, f"{path} cannot be read")
    equal(box.run("echo on").output, "on\n")


@needs("own root", "closed kernel folders")
@in_a_box
def home_run_and_secrets_of_the_host_are_absent(box: Sandbox) -> None:
    """Of the host's files only its programs are there."""
    for path in ("/home", "/srv", "/mnt", "/boot", "/lost+found"):
        equal(box.run(f"ls -A {path} 2>/dev/null").output, "", path)
    for path in (
        "/etc/shadow",
        "/etc/ssh",
        "/var/run/docker.sock",
        "/run/systemd",
        "/root/.ssh",
        "/sys/kernel",
        "/sys/fs",
    ):
        true(not box.run(["test", "-e", path]).ok, f"{path} is absent")


@needs("own root")
@with_boxes
def temporary_files_of_the_host_are_absent(open_box: Opener) -> None:
    """/tmp, /dev/shm and the work tree of one box are seen by no other box, nor by the host."""
    with open_box() as one, open_box() as two:
        one.run("echo x > /tmp/of-one; echo x > /dev/shm/of-one; echo x > of-one")
        equal(
            two.run("ls /tmp /dev/shm; ls of-one 2>/dev/null")
            .output.replace("/tmp:", "")
            .replace("/dev/shm:", "")
            .strip(),
            "",
        )
        true(not Path("/tmp/of-one").exists() and not Path("/dev/shm/of-one").exists(), "nor by the host")


@needs("sealed host")
@in_a_box
def programs_of_the_host_cannot_be_changed(box: Sandbox) -> None:
    """/usr, what links into it and the interpreter are read-only."""
    for path in ("/usr/bin/env", "/bin/sh", "/usr/lib/new", *(f"{bind}/new" for bind in box.snapshot.binds)):
        true(not box.run(f"echo x >> {path}").ok, f"{path} cannot be written")
        true(not box.run(f"chmod 777 {os.path.dirname(path)}").ok, f"{path}: no modes are changed")


@in_a_box
def the_start_is_never_changed(box: Sandbox) -> None:
    """Whatever a box does to its files, the snapshot stays as it is."""
    tree = box.snapshot.layers[0] / "testbed"
    before = {path.name: (path.stat().st_mode, path.read_bytes()) for path in tree.iterdir() if path.is_file()}
    box.run("chmod 777 *; echo changed | tee *.md *.bin; rm -rf .git src; truncate -s 0 latin.txt")
    after = {path.name: (path.stat().st_mode, path.read_bytes()) for path in tree.iterdir() if path.is_file()}
    equal(after, before)


@needs("closed kernel folders")
@in_a_box
def kernel_settings_cannot_be_changed(box: Sandbox) -> None:
    """/proc and /sys offer nothing that could change the machine."""
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/sys/vm/drop_caches",
        "/proc/irq/default_smp_affinity",
        "/sys/power/state",
    ):
        true(not box.run(f"echo 1 > {path}").ok, f"{path} cannot be written")
    writable = box.run(
        "find /proc -maxdepth 2 -path '/proc/[0-9]*' -prune -o -path /proc/self -prune -o "
        "-path /proc/thread-self -prune -o -type f -writable -exec test -f {} \\; -print 2>/dev/null"
    ).output
    equal(writable, "")


@needs("own root", "closed kernel folders")
@in_a_box
def devices_are_few_and_cannot_be_made(box: Sandbox) -> None:
    """No disk, memory or input device is there; none can be made; modes of the few are the host's own and stay."""
    names = set(box.run("ls /dev").output.split())
    true(
        names
        <= {
            "fd",
            "full",
            "null",
            "ptmx",
            "pts",
            "random",
            "shm",
            "stderr",
            "stdin",
            "stdout",
            "tty",
            "urandom",
            "zero",
        },
        f"devices: {names}",
    )
    for kind in ("b 8 0", "c 1 1", "c 0 0"):
        true(not box.run(f"mknod /tmp/device {kind}").ok, f"mknod {kind}")
    mode = os.stat("/dev/null").st_mode
    box.run("chmod 000 /dev/null; chmod 000 /proc/self/fd/0; python3 -c 'import os; os.fchmod(0, 0)'")
    equal(os.stat("/dev/null").st_mode, mode, "mode of the host's /dev/null")


@needs("system call filter")
@in_a_box
def mounts_and_namespaces_are_refused(box: Sandbox) -> None:
    """Nothing can be mounted, unmounted or unshared."""
    for text in (
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /usr",
        "mount --bind / /mnt",
        "umount /proc",
        "unshare -Ur true",
        "unshare -m true",
        "chroot / true",
        "nsenter -t 1 -m true",
        "swapon /dev/null",
        "hostname other",
    ):
        true(not box.run(text).ok, text)


@needs("system call filter")
@in_a_box
def dangerous_calls_are_refused(box: Sandbox) -> None:
    """Tracing, kernel keys, programs in the kernel, handles, and the like are refused."""
    calls = {
        "x86_64": {
            "ptrace": 101,
            "keyctl": 250,
            "bpf": 321,
            "perf_event_open": 298,
            "userfaultfd": 323,
            "io_uring_setup": 425,
            "open_by_handle_at": 304,
            "kexec_load": 246,
            "reboot": 169,
            "init_module": 175,
            "setns": 308,
            "process_vm_readv": 310,
            "syslog": 103,
            "fsopen": 430,
            "pivot_root": 155,
        },
        "aarch64": {
            "ptrace": 117,
            "keyctl": 219,
            "bpf": 280,
            "perf_event_open": 241,
            "userfaultfd": 282,
            "io_uring_setup": 425,
            "open_by_handle_at": 265,
            "kexec_load": 104,
            "reboot": 142,
            "init_module": 105,
            "setns": 268,
            "process_vm_readv": 270,
            "syslog": 116,
            "fsopen": 430,
            "pivot_root": 41,
        },
    }
    text = (
        "import ctypes, platform, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"for name, number in {calls!r}[platform.machine()].items():\n"
        "    libc.syscall(number, 0, 0, 0, 0, 0)\n"
        "    if ctypes.get_errno() != errno.EPERM: print(name, ctypes.get_errno())"
    )
    equal(_python(box, text), "")


@needs("system call filter", "own processes")
@in_a_box
def rights_are_few_and_none_can_be_gained(box: Sandbox) -> None:
    """Capabilities are those of an ordinary build; set-user-id programs give nothing."""
    status = dict(
        line.split(":\t", 1) for line in box.run("cat /proc/self/status").output.splitlines() if ":\t" in line
    )
    equal((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
    allowed = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 10))
    for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
        equal(int(status[name], 16) & ~allowed, 0, name)


@needs("shared memory")
@in_a_box
def threads_and_subprocesses_work(box: Sandbox) -> None:
    """The filter of calls does not stand in the way of threads, pools and subprocesses."""
    text = (
        "import concurrent.futures as f, multiprocessing as m, subprocess, threading\n"
        "print(sum(f.ThreadPoolExecutor(4).map(int, '123')))\n"
        "with m.get_context('fork').Pool(2) as p: print(p.map(abs, [-1, -2]))\n"
        "print(subprocess.run(['echo', 'sub'], capture_output=True, text=True).stdout)"
    )
    equal(_python(box, text).split(), ["6", "[1,", "2]", "sub"])


@needs("own loopback")
@in_a_box
def there_is_a_loopback_of_its_own(box: Sandbox) -> None:
    """Services of the box on 127.0.0.1 can be reached from inside."""
    text = (
        "import socket, threading\ns = socket.create_server(('127.0.0.1', 0))\n"
        "threading.Thread(target=lambda: s.accept()[0].sendall(b'hello'), daemon=True).start()\n"
        "print(socket.create_connection(s.getsockname()).recv(9).decode())"
    )
    equal(_python(box, text), "hello")


@needs("own loopback")
@in_a_box
def services_of_the_host_cannot_be_reached(box: Sandbox) -> None:
    """Neither the host's loopback, nor its abstract sockets, nor any network is there."""
    name = f"\0swebench-lab-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(name)
        local.listen()
        text = (
            "import socket\n"
            f"here = ('127.0.0.1', {server.getsockname()[1]})\n"
            f"for family, address in ((2, here), (1, {name!r}), (2, ('192.0.2.1', 80))):\n"
            "    s = socket.socket(family); s.settimeout(3)\n"
            "    try: s.connect(address); print('reached', address)\n    except OSError: pass"
        )
        equal(_python(box, text), "")
    equal(box.run("cat /proc/net/route | wc -l").output.strip(), "1", "routes besides the heading")
    for family in (17, 38, 40):  # packet, alg, vsock
        text = f"import socket\ntry: socket.socket({family}, 3); print('made')\nexcept OSError: pass"
        equal(_python(box, text), "", f"socket family {family}")


@needs("own names")
@in_a_box
def the_box_has_its_own_name_and_ipc(box: Sandbox) -> None:
    """Host name and System V objects are the box's own."""
    equal(box.run("cat /proc/sys/kernel/hostname").output.strip(), "lab")
    equal(box.run("tail -n +2 /proc/sysvipc/shm | wc -l").output.strip(), "0")


@needs("sealed host")
@in_a_box
def host_paths_of_the_layers_do_not_matter(box: Sandbox) -> None:
    """The folders on the host that the box is made of cannot be opened from inside."""
    for folder in box.snapshot.layers:
        true(not box.run(["ls", str(folder)]).ok, f"{folder} is not there")


@needs("sealed host")
@with_boxes
def a_box_cannot_see_what_it_is_graded_with(open_box: Opener) -> None:
    """The folder of true tests is not in the box."""
    with open_box() as box:
        true(not box.run(["ls", str(box.snapshot.tests)]).ok, "it is not there")
        mounted = box.run("cat /proc/self/mountinfo").output
        true(str(box.snapshot.tests) not in mounted, "nor mounted anywhere")


@needs("command trees")
@in_a_box
def a_daemon_ends_with_its_box(box: Sandbox) -> None:
    """A process that left its session ends with the box."""
    with tempfile.TemporaryDirectory() as _:
        mark = f"79{os.getpid()}{threading.get_ident() % 1000}"
        box.run(
            f"(setsid nohup sh -c 'echo $$ >pid; exec sleep {mark}' >/dev/null 2>&1 &); until test -s pid; do :; done"
        )
        true(box.run("kill -0 $(cat pid)").ok, "the daemon runs")
        box.close()
        commands = [_command_line(name) for name in os.listdir("/proc") if name.isdigit()]
        true(f"sleep {mark}" not in commands, "the daemon is gone")


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


@in_a_box
def the_work_of_git_goes_on(box: Sandbox) -> None:
    """The repository in the box is an ordinary one: status, log, diff, commit and stash work."""
    result = box.run(
        "git status --short && git log --oneline && echo more >> README.md && git diff --stat && "
        "git -c user.name=x -c user.email=x@y commit -qam more && git log --oneline | wc -l"
    )
    true(result.ok and result.output.strip().endswith("2"), result.output)

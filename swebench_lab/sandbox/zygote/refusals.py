"""Why this machine refuses a box, in one paragraph that says what to do."""

import errno
import os
import platform
from pathlib import Path

_ELSEWHERE = "or use a backend that needs none of this: 'docker', or 'local', which does not isolate"


def explain(tier: str, code: int, text: str) -> str:
    """The paragraph for a refusal.

    Args:
        tier: The kind of box that was asked for.
        code: The error number that the system call gave.
        text: Which operation failed, and how.
    """
    advice = _advice(tier, code, text)
    return f"cannot make a sandbox of tier {tier!r}: {text} ({errno.errorcode.get(code, code)}). {advice}; {_ELSEWHERE}"


def _advice(tier: str, code: int, text: str) -> str:
    rootless = tier == "namespace-rootless"
    if code == errno.ENOSYS:
        return f"This kernel ({platform.release()}) lacks the call: Linux 5.12 or newer is needed"
    if rootless and ("unshare" in text or "_map" in text or "clone" in text or "setgroups" in text):
        return _user_namespaces(code)
    if "process table" in text and rootless:
        return (
            "The machine hides parts of /proc, as containers do, and then the kernel grants no fresh /proc. Start the "
            "container with `--security-opt systempaths=unconfined` (Kubernetes: procMount: Unmasked)"
        )
    if "overlay" in text:
        return _overlay(rootless, code)
    if not rootless and code in (errno.EPERM, errno.EACCES):
        return (
            "This root has no right to make namespaces or mounts, as in most containers. Start the container with "
            "`--privileged`, or `--cap-add SYS_ADMIN --security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined`"
        )
    if code == errno.ENOENT:
        return "A file or directory that the box is made of is missing; build the snapshot again"
    if code in (errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE):
        return "The machine is out of memory, descriptors or namespaces; close other sandboxes and try again"
    return "Run `swebench-lab doctor` to see what this machine can do"


def _user_namespaces(code: int) -> str:
    """Who stands against user namespaces here."""
    if _setting("user/max_user_namespaces") == "0":
        return (
            "User namespaces are switched off: an administrator can allow them with "
            "`sysctl user.max_user_namespaces=15000`"
        )
    if _setting("kernel/unprivileged_userns_clone") == "0":
        return (
            "User namespaces are closed to ordinary users: an administrator can open them with "
            "`sysctl kernel.unprivileged_userns_clone=1`"
        )
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor takes the rights out of new user namespaces (Ubuntu 23.10 and newer): an administrator can allow "
            "them with `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or a profile with `userns,` for this "
            "Python"
        )
    if code in (errno.ENOSPC, errno.EUSERS):
        return (
            "The bound on user namespaces is reached: close other sandboxes, or raise `sysctl user.max_user_namespaces`"
        )
    if _status("Seccomp") == "2":
        return (
            "A filter of the container refuses user namespaces: start it with `--security-opt seccomp=unconfined` "
            "(Kubernetes: seccompProfile: Unconfined)"
        )
    return "User namespaces are refused to this user; a security module or the login's configuration may forbid them"


def _overlay(rootless: bool, code: int) -> str:
    if "overlay" not in _read("/proc/filesystems") and not os.path.isdir("/sys/module/overlay"):
        return "The kernel has no overlay file system loaded: an administrator can load it with `modprobe overlay`"
    if code in (errno.EACCES, errno.EPERM, errno.EOVERFLOW) and rootless:
        return (
            "The layers must be readable by, and belong to, the user who opens the box (Linux 5.11 or newer): use a "
            "cache "
            "of your own"
        )
    if code == errno.EINVAL:
        return (
            "The file system below the writable directory cannot carry an overlay (another overlay, NFS, or memory on "
            "kernels before 6.6 without root): choose another `scratch`, on ext4 or xfs, or none for memory"
        )
    return "The layers could not be joined; check that they exist and build the snapshot again"


def _setting(name: str) -> str:
    return _read(f"/proc/sys/{name}").strip()


def _status(name: str) -> str:
    lines = (line.partition(":") for line in _read("/proc/self/status").splitlines())
    return next((value.strip() for key, _, value in lines if key == name), "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

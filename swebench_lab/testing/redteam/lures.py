"""Attacks that wait for the host: what a box plants for the moment when its user reads, writes, copies or compares."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

from swebench_lab.errors import LabError
from swebench_lab.testing.redteam.attack import Attack

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.testing.redteam.ground import Ground

_PATIENCE = 20.0  # seconds that an operation of the host may take on what a box planted


def _quietly(operation: Callable[[], object]) -> object:
    """Do what a user would do; refusing is fine."""
    try:
        return operation()
    except (LabError, OSError, UnicodeError):
        return None


def _in_time(operation: Callable[[], object], box: Sandbox, what: str) -> tuple[object, str]:
    """Do something of which a box may have made an endless one; closing the box ends it."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(_quietly(operation)), daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        box.close()
        thread.join(_PATIENCE)
        return None, f"{what} did not come back within {_PATIENCE:g} s"
    return results[0], ""


def _read_links(ground: Ground, box: Sandbox) -> str:
    """Read, list and write through every planted link."""
    data = b""
    for number in range(len(ground.files)):
        entries = _quietly(partial(box.list, f"folder-{number}"))
        if isinstance(entries, list) and any(ground.mark in name for name in entries):
            return f"list() showed {ground.files[number].parent} of the host"
        for name in (
            f"soft-{number}",
            f"chain-{number}",
            f"folder-{number}/{ground.files[number].name}",
            f"hard-{number}",
        ):
            content = _quietly(partial(box.read_bytes, name))
            data += content if isinstance(content, bytes) else b""
            _quietly(partial(box.write, name, "LAB-WAS-HERE"))
    return "read() returned the canaries' secret" if ground.token.encode() in data else ""


def _download_links(ground: Ground, box: Sandbox) -> str:
    """Download the tree with the planted links, and what they lead to."""
    target = ground.folder / "downloaded"
    for path in (".", "soft-0", "folder-0", "hard-0"):
        _quietly(partial(box.download, path, target / path.replace(".", "all")))
    return _secret_below(target, ground) or _through(target)


def _secret_below(folder: Path, ground: Ground) -> str:
    for path in folder.rglob("*") if folder.exists() else ():
        if path.is_file() and not path.is_symlink() and ground.token in path.read_text(errors="replace"):
            return f"download() brought the host's own secret to {path}"
    return ""


def _through(folder: Path) -> str:
    """Say whether a downloaded link leads out of the folder it was downloaded to."""
    for path in folder.rglob("*") if folder.exists() else ():
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            return f"download() made a link to {path.readlink()}"
    return ""


def _upload_over(ground: Ground, box: Sandbox) -> str:
    """Upload a file and a folder over planted links."""
    source = ground.folder / "uploaded"
    (source / "folder-0").mkdir(parents=True, exist_ok=True)
    (source / "folder-0" / ground.files[0].name).write_text("LAB-WAS-HERE")
    (source / "soft-0").write_text("LAB-WAS-HERE")
    _quietly(lambda: box.upload(source, "."))
    _quietly(lambda: box.upload(source / "soft-0", "soft-0"))
    return ""


_PLANT = """
    n=0
    for f in $LAB_FILES; do
        ln -s $f soft-$n
        ln -s soft-$n chain-$n
        ln -s $(dirname $f) folder-$n
        ln $f hard-$n 2>/dev/null
        n=$((n+1))
    done
    ln -s / everything
    ln -s /proc/self/root root
"""


def _exchange(ground: Ground, box: Sandbox) -> str:
    """Read and write a name that changes between a file and a link all the time."""
    deadline = time.monotonic() + 3.0
    data = b""
    while time.monotonic() < deadline:
        content = _quietly(lambda: box.read_bytes("dance/file"))
        data += content if isinstance(content, bytes) else b""
        _quietly(lambda: box.write("dance/file", "LAB-WAS-HERE"))
    return "read() returned the canaries' secret" if ground.token.encode() in data else ""


def _endless(ground: Ground, box: Sandbox) -> str:
    """Read what never ends or never begins."""
    for name in ("fifo", "zero", "socket", "tty"):
        _, late = _in_time(partial(box.read_bytes, name), box, f"read() of a planted {name}")
        if late:
            return late
        _, late = _in_time(partial(box.write, name, "x"), box, f"write() to a planted {name}")
        if late:
            return late
    _, late = _in_time(
        lambda: box.download("pit", ground.folder / "pit"), box, "download() of a folder with planted pipes"
    )
    return late


def _proc_of_keeper(ground: Ground, box: Sandbox) -> str:
    """Read, as the host, names that mean something else for the process that opens them."""
    data = b""
    for name in (
        "environ",
        "maps",
        "cmdline",
        "root" + str(ground.files[0]),
        "cwd/" + ground.files[0].name,
        "task/1/environ",
    ):
        content = _quietly(partial(box.read_bytes, f"/proc/self/{name}"))
        data += content if isinstance(content, bytes) else b""
    return "read() of /proc/self returned the canaries' secret" if ground.token.encode() in data else ""


def hostile_tar(where: str) -> bytes:
    """Return an archive that tries to write `where` by names with dots, links, and names too long to resolve."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:

        def put(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"LAB-WAS-HERE") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = kind, link, 0o755
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(content) if entry.size else None)

        put(f"../{where}")
        put(f"/tmp/{where}")
        put("out", tarfile.SYMTYPE, "..")
        put(f"out/{where}")
        put("deep/er", tarfile.SYMTYPE, "../..")
        put(f"deep/er/{where}")
        put("hard", tarfile.LNKTYPE, f"../{where}")
        put("node", tarfile.CHRTYPE)
        _outrun(put, where)
    return buffer.getvalue()


def _outrun(put: Callable[..., None], where: str) -> None:
    """Add links whose full name is longer than a path may be, so that resolving them gives up half way."""
    long, steps, path = "d" * 247, "abcdefghijklmnop", ""
    for step in steps:
        put(f"{path}{long}", tarfile.DIRTYPE)
        put(f"{path}{step}", tarfile.SYMTYPE, long)
        path += f"{long}/"
    short = "/".join(steps)
    put(f"{short}/{'l' * 254}", tarfile.SYMTYPE, "../" * len(steps))
    put("escape", tarfile.SYMTYPE, f"{short}/{'l' * 254}/../..")
    put(f"escape/{where}")
    put("flag", tarfile.LNKTYPE, f"escape/{where}")
    put("flag")


def _false_tar(ground: Ground, box: Sandbox) -> str:
    """Let the box's `tar` be a program that writes a hostile archive, then download."""
    name = f"escaped-{ground.mark}"
    box.write("hostile.tar", hostile_tar(name))
    box.write("tar", f"#!/bin/sh\ncat {box.workdir}/hostile.tar\n", mode=0o755)
    box.run('for d in "$VIRTUAL_ENV/bin" /usr/local/bin /usr/bin /bin; do rm -f $d/tar; cp tar $d/tar; done')
    target = ground.folder / "a" / "b" / "c"
    target.mkdir(parents=True, exist_ok=True)
    box.run("mkdir -p loot")
    _quietly(lambda: box.download("loot", target))
    escapes = [
        path for path in (ground.folder / "a").rglob(name) if not path.resolve().is_relative_to(target.resolve())
    ]
    escapes += [
        path for path in (Path("/tmp", name), ground.folder / name, ground.folder.parent / name) if path.exists()
    ]
    for path in escapes:
        path.unlink()
    return f"download() wrote {escapes[0]}" if escapes else _through(target)


LINKS = (
    Attack(
        "planted links, read and written",
        "links",
        "Plant soft and hard links to host files for `read`, `list` and `write`.",
        program=_PLANT,
        then=_read_links,
    ),
    Attack(
        "planted links, downloaded",
        "links",
        "Plant links to host files in a folder that is downloaded.",
        program=_PLANT,
        then=_download_links,
    ),
    Attack(
        "planted links, uploaded over",
        "links",
        "Plant links to host files where something is uploaded.",
        program=_PLANT,
        then=_upload_over,
    ),
    Attack(
        "links that change under the host's hands",
        "links",
        "Exchange a folder with a link while the host reads and writes below it.",
        program="""
            mkdir -p real dance
            echo mine >real/file
            f=${LAB_FILES%% *}
            ln -s $(dirname $f) away
            ln -s $f away-file
            d=$(dirname $f)
            dance() {
                rm -rf dance; ln -s $d dance; rm -f dance; mkdir dance
                ln -s $f dance/file; rm -f dance/file; echo mine >dance/file
            }
            (end=$(($(date +%s)+4)); while [ $(date +%s) -lt $end ]; do dance; done) >/dev/null 2>&1 &
        """,
        then=_exchange,
    ),
    Attack(
        "pipes and devices for files",
        "links",
        "Hold the host up with a pipe, a socket or an endless device in place of a file.",
        program="""
            mkfifo fifo
            ln -s /dev/zero zero
            ln -s /dev/tty tty
            python3 -c "import socket; socket.socket(1).bind('socket')"
            mkdir pit
            mkfifo pit/a pit/b
            ln -s /dev/zero pit/c
            true
        """,
        then=_endless,
        timeout=20,
    ),
    Attack(
        "names in /proc",
        "links",
        "Have the host open names that mean the opener: /proc/self and its links.",
        then=_proc_of_keeper,
    ),
    Attack(
        "a false tar",
        "links",
        "Answer a download with an archive that writes outside: `..`, links, and names too long to resolve.",
        then=_false_tar,
    ),
)

# --- git ---------------------------------------------------------------------------------------------------------

_HONEST = "+    # changed"
_BEFORE = r"""
LAB_RUN=${TMPDIR:-/tmp}/run
hostile() {  # a program that leaves a trace on the host, should it ever run there
    printf '#!/bin/sh\ntouch %s/executed-1\ncat\n' "$(dirname $LAB_SOCKET)" >$1
    chmod +x $1
}
hostile $LAB_RUN
sed -i 's/return sum(amounts)/# changed\n    return sum(amounts)/' src/ledger/__init__.py
"""


def _honest_diff(ground: Ground, box: Sandbox) -> str:
    """Make the patch; it must tell of the one change that was made, and nothing may have been executed on the host."""
    patch, late = _in_time(box.diff, box, "diff()")
    executed = list(ground.folder.glob("executed-*"))
    for path in executed:
        path.unlink()
    if executed or late:
        return "a program of the box was executed on the host" if executed else late
    if not isinstance(patch, str):
        return "diff() failed"
    files = [line for line in patch.splitlines() if line.startswith("diff --git")]
    if len(files) != 1 or _HONEST not in patch or "LAB-WAS-HERE" in patch:
        return f"diff() does not tell the truth: {'; '.join(files) or 'nothing changed'}"
    return ""


def _git(name: str, tries: str, program: str) -> Attack:
    return Attack(name, "git", tries, program=_BEFORE + dedent(program), then=_honest_diff)


GIT = (
    _git(
        "filters and text conversion",
        "Have git run filters, conversions and diff programs of the box.",
        """
            for k in filter.x.clean filter.x.smudge filter.x.process diff.x.textconv diff.x.command diff.external; do
                git config $k $LAB_RUN
            done
            mkdir -p .git/info
            echo '* filter=x diff=x' >.git/info/attributes
        """,
    ),
    _git(
        "hooks and monitors",
        "Have git run hooks, a file system monitor, a pager, an editor or a credential helper of the box.",
        """
            mkdir -p .git/hooks
            for h in pre-commit post-index-change post-checkout reference-transaction pre-auto-gc; do
                hostile .git/hooks/$h
            done
            git config core.hooksPath .git/hooks
            for k in fsmonitor pager editor sshCommand gitProxy askPass; do
                git config core.$k $LAB_RUN
                git config --global core.$k $LAB_RUN
            done
            git config credential.helper $LAB_RUN
            git config gpg.program $LAB_RUN
        """,
    ),
    _git(
        "index tricks",
        "Hide a change by marks in the index, sparse checkouts, excludes and a stale index.",
        """
            git update-index --assume-unchanged src/ledger/__init__.py
            git update-index --skip-worktree src/ledger/__init__.py
            for k in sparseCheckout ignoreStat; do git config core.$k true; done
            git config core.trustctime false
            git config core.checkStat minimal
            git config core.excludesFile /testbed/setup.cfg
            git config status.showUntrackedFiles no
            mkdir -p .git/info
            echo '/nothing' >.git/info/sparse-checkout
            echo '*' >.git/info/exclude
            touch -d @1 src/ledger/__init__.py
        """,
    ),
    _git(
        "commits and resets",
        "Hide a change by committing it, replacing objects, and cleaning up.",
        """
            before=$(git rev-parse HEAD)
            git -c user.name=a -c user.email=b commit -qam 'LAB-WAS-HERE'
            git replace $before HEAD
            git replace $before^{tree} HEAD^{tree}
            git tag -f x
            git gc -q --prune=now
        """,
    ),
    _git(
        "without a repository",
        "Remove the repository, and put a pointer to another one in its place.",
        """
            rm -rf .git
            git init -q ${TMPDIR:-/tmp}/other
            echo "gitdir: ${TMPDIR:-/tmp}/other/.git" >.git
        """,
    ),
    _git(
        "another work tree",
        "Point git elsewhere by configuration, and by what shells read at their start.",
        r"""
            git config core.worktree /tmp
            git config core.bare true
            git config include.path /tmp/inc
            git config extensions.worktreeConfig true
            for f in ~/.bashrc ~/.profile ~/.bash_profile; do
                echo "export GIT_DIR=/tmp/none GIT_WORK_TREE=/tmp GIT_EXTERNAL_DIFF=$LAB_RUN BASH_ENV=$LAB_RUN" >$f
            done
            printf '[core]\n\tfsmonitor = %s\n[diff]\n\texternal = %s\n' $LAB_RUN $LAB_RUN >~/.gitconfig
            cp ~/.gitconfig /etc/gitconfig
        """,
    ),
    _git(
        "programs called git",
        "Put programs called git, bash, mktemp, find and so on before the real ones.",
        """
            for d in "$VIRTUAL_ENV/bin" ~/bin /usr/local/bin; do
                mkdir -p $d
                for p in git bash mktemp find cat iconv; do hostile $d/$p; done
            done
        """,
    ),
    _git(
        "an endless work tree",
        "Keep the comparison busy with pipes and very deep folders.",
        """
            mkfifo pipe
            truncate -s 1T .git/nothing
            python3 -c "
            import os
            for i in range(900):
                os.mkdir('d')
                os.chdir('d')"
        """,
    ),
    Attack(
        "ending whoever looks",
        "git",
        "Leave a process behind that ends all others, so that no patch can be made.",
        program=_BEFORE + "(while :; do kill -KILL -1; done) & exit 0",
        then=_honest_diff,
        gaps={"landlock": "before Linux 6.12 a box can end the process that serves it"},
    ),
    _git(
        "a patch without room",
        "Fill every temporary directory, so that no patch can be made.",
        """
            mkfifo pipe
            for n in 1 2 3 4 5; do head -c 64M /dev/zero >/dev/shm/full$n; done 2>/dev/null
            head -c 64M /dev/zero >${TMPDIR:-/tmp}/full
        """,
    ),
    Attack(
        "a file of a terabyte",
        "git",
        "Have `diff` read a new file that is a terabyte of nothing.",
        program="truncate -s 1T big 2>/dev/null; true",
        then=lambda _, box: _in_time(box.diff, box, "diff() of a sparse file of 1 TB")[1],
    ),
)

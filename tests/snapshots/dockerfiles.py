"""A suite of small Dockerfiles, in and outside the subset, and how the trees that they come to are written down."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from swebench_lab.sandbox.layers.view import View

BASE = "lab-base:1"
APPLETS = [
    "sh",
    "ls",
    "cat",
    "echo",
    "mkdir",
    "rmdir",
    "touch",
    "chmod",
    "chown",
    "id",
    "env",
    "rm",
    "ln",
    "mv",
    "cp",
    "stat",
    "find",
    "sort",
    "true",
    "false",
    "pwd",
    "printf",
    "tar",
    "grep",
    "sed",
    "mkfifo",
    "head",
    "tail",
    "wc",
    "test",
    "sleep",
    "tr",
    "seq",
    "umask",
]
NOISE = ("dev", "proc", "sys", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab")
"""What engines put into every container."""


@dataclass(frozen=True)
class Case:
    """One Dockerfile.

    Attributes:
        name: Of the case.
        text: The Dockerfile.
        files: Its context: path → text, bytes, a number (mode of a directory) or `-> target`; modes after `|` in a path.
        args: Values of ARGs.
        target: The stage.
        why_not: Why an engine of before 2023 cannot build it; empty where it can.
        differs: Path → line, where ours is another one on purpose.
        ours: What it says of itself that is another on purpose.
    """

    name: str
    text: str
    files: Mapping[str, str | bytes | int] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    why_not: str = ""
    differs: Mapping[str, str] = field(default_factory=dict)
    ours: Mapping[str, object] = field(default_factory=dict)


def tar(mode: str, *members: tuple[str, str, int, int, int]) -> bytes:
    """An archive of files (name, content, mode, uid, gid); a name that ends with a slash is a directory."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{mode}") as archive:
        for name, text, bits, user, group in members:
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.mode, entry.uid, entry.gid, entry.mtime = bits, user, group, 1_700_000_000
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            elif text.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, text[3:]
            elif text.startswith("= "):
                entry.type, entry.linkname = tarfile.LNKTYPE, text[2:]
            data = text.encode() if entry.isreg() else b""
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


_PACKED = (
    ("pkg/", "", 0o755, 0, 0), ("pkg/run.sh", "#!/bin/sh\n", 0o755, 1000, 1001), ("pkg/data", "data\n", 0o640, 5, 6),
    ("pkg/again", "= pkg/data", 0o640, 5, 6), ("pkg/link", "-> data", 0o777, 0, 0),
)  # fmt: skip
_TREE: Mapping[str, str | bytes | int] = {
    "a.txt": "a\n", "b.txt": "b\n", "run.sh|755": "#!/bin/sh\necho ran\n", "secret|600": "s\n", "dir|750": 0,
    "dir/in|640": "in\n", "dir/sub|711": 0, "dir/sub/deep": "deep\n", "dir/link": "-> in", "dir/none|700": 0,
    "up": "-> dir/in",
}  # fmt: skip

CASES = (
    Case("run", f"""\
FROM {BASE}
# a comment
RUN mkdir -p /a/b \\
    # in between

    && echo one > /a/one \\
    && umask 077 && echo two > /a/two
"""),
    Case("run exec form", f'FROM {BASE}\nRUN ["/bin/sh", "-c", "echo $0 $1 > /out", "x", "y z"]\nRUN ["touch", "/a b"]\n'),
    Case("arguments", f"""\
ARG TAG=1
ARG UNUSED
FROM lab-base:$TAG AS first
ARG TAG
ARG WHO=nobody
RUN echo "$TAG $WHO" > /first
FROM {BASE}
ARG WHO
ARG LATE="a b"
RUN echo "[$TAG][$WHO][$LATE]" > /second
ENV LATE=env
RUN echo "$LATE" > /third
COPY --from=first /first /
""", args={"WHO": "somebody"}),
    Case("variables", f"""\
FROM {BASE}
ENV one=1 two="t w o" three=t\\ hree four='f"our$one'
ENV old style with spaces
ENV one=2 copy=$one
ENV empty=
WORKDIR /w/${{one:-no}}/${{none:-yes}}/${{two:+set}}${{none:+not}}/${{empty:-e}}
RUN env | grep -E '^(one|two|three|four|old|copy|empty)=' | sort > out; pwd >> out
COPY ${{none:-a}}.txt "$one.x"
COPY a.txt \\$one
""", {"a.txt": "a\n"}),
    Case("working directories", f"FROM {BASE}\nWORKDIR a\nWORKDIR b/../c\nRUN pwd > here\nWORKDIR /x/\nRUN pwd > here\n",
         ours={"WorkingDir": "/x"}),
    Case("privileges", f"FROM {BASE}\nRUN echo x > /a && chmod 6755 /a && mkdir -m 2755 /d\n",
         differs={"a": "file 755 0:0 'x\\n'", "d": "dir 755 0:0"}),
    Case("copied hard links", f"""\
FROM {BASE} AS a
RUN mkdir /d && echo x > /d/one && ln /d/one /d/two
FROM {BASE}
COPY --from=a /d /d
"""),
    Case("copy files", f"""\
FROM {BASE}
WORKDIR /w
COPY a.txt .
COPY a.txt renamed
COPY a.txt new/
COPY a.txt b.txt run.sh /srv/many/
COPY secret /tmp
COPY up /
""", _TREE),
    Case("copy directories", f"FROM {BASE}\nCOPY dir /new\nCOPY dir/ /etc/\nRUN mkdir -m 700 /have && echo old > /have/in\nCOPY dir /have\n", _TREE),
    Case("copy everything", f"FROM {BASE}\nWORKDIR /all\nCOPY . .\n", _TREE),
    Case("copy by pattern", f"FROM {BASE}\nCOPY *.txt /t/\nCOPY di?/i* d[a-z]r/sub /d/\n", _TREE),
    Case("copy with owners", f"""\
FROM {BASE}
COPY --chown=app a.txt /one
COPY --chown=app:extra dir /two
COPY --chown=12:34 a.txt b.txt /three/
COPY --chown=77 a.txt /four
""", _TREE),
    Case("copy with a mode", f"FROM {BASE}\nCOPY --chmod=741 a.txt /one\nCOPY --chmod=0700 --chown=1:2 dir /two\n", _TREE),
    Case("json places", f'FROM {BASE}\nCOPY ["a file", "b.txt", "/to here/"]\n', {"a file": "x", "b.txt": "y"}),
    Case("ignored", f"FROM {BASE}\nCOPY . /all/\n", {
        ".dockerignore": "# no\n*.log\n**/*.tmp\nnode/*\n!node/keep\nout\n!out/deep/x\n/top\n",
        "a.log": "", "in/a.log": "", "a.tmp": "", "in/b/a.tmp": "", "in/b/ok": "", "node/x": "", "node/keep": "k",
        "out/a": "", "out/deep/x": "x", "out/deep/y": "", "top": "", "in/top": "t",
    }),
    Case("copy through a link", f"FROM {BASE}\nRUN mkdir -p /srv/real && ln -s srv/real /data\nCOPY a.txt /data/\nCOPY dir /data/deep\n", _TREE),
    Case("stages", f"""\
FROM {BASE} AS build
WORKDIR /out
COPY run.sh .
RUN ./run.sh > ran && chown 1000:1001 ran && ln -s ran link && mkdir -m 711 d && echo x > d/x
FROM {BASE}
COPY --from=build /out /from-name
COPY --from=0 /out/ran /out/d /from-number/
COPY --from=build --chown=app:app /out/link /one
FROM build
RUN ls > list
COPY --from=1 /from-name/ran again
""", _TREE),
    Case("a target", f"FROM {BASE} AS a\nRUN echo a > /a\nFROM {BASE} AS b\nRUN echo b > /b\nFROM a\nRUN false\n", target="b"),
    Case("add archives", f"FROM {BASE}\nADD p.tar.gz p.tar.xz /in/\nADD p.tar /in2\nADD plain.gz a.txt /plain/\n", {
        "p.tar.gz": tar("gz", *_PACKED), "p.tar.xz": tar("xz", ("x/y", "y", 0o600, 0, 0)), "p.tar": tar("", *_PACKED),
        "plain.gz": b"\x1f\x8b nothing", "a.txt": "a\n",
    }),
    Case("add an archive over links", f"FROM {BASE}\nRUN mkdir -p /usr/lib && ln -s usr/lib /lib\nADD p.tar /\n", {
        "p.tar": tar("", ("lib/new", "n", 0o644, 0, 0), ("etc/", "", 0o700, 3, 4), ("etc/passwd", "p", 0o600, 0, 0)),
    }),
    Case("copy an archive", f"FROM {BASE}\nCOPY p.tar.gz /in/\n", {"p.tar.gz": b"not looked into"}),
    Case("users", f"""\
FROM {BASE}
RUN mkdir /home/app && chown app:app /home/app
USER app
WORKDIR /home/app
RUN id > who && echo "$HOME" > home && touch /tmp/mine
USER 12:34
RUN id > /tmp/numbers
USER nobody:extra
RUN id > /tmp/group
COPY a.txt /home/app/roots
""", {"a.txt": "a\n"}),
    Case("another shell", f'FROM {BASE}\nSHELL ["/bin/sh", "-e", "-c"]\nRUN echo $- > /flags\nSHELL ["/bin/echo"]\nRUN nothing > /not-there\n'),
    Case("deletions", f"""\
FROM {BASE}
RUN mkdir -p /d/e /f && echo 1 > /d/one && echo 2 > /d/two && echo 3 > /d/e/three && echo 4 > /f/four
RUN rm /d/one /etc/group && rm -r /d/e && mkdir /d/e && echo 5 > /d/e/five
RUN rm -r /f && echo file > /f && rm /d/two && ln -s /f /d/two
RUN rm /f && mkdir /f
"""),
    Case("hard links and pipes", f"FROM {BASE}\nRUN echo x > /a && ln /a /b && mkfifo -m 600 /p\nRUN echo y >> /b\n"),
    Case("sticky folders", f"FROM {BASE}\nRUN mkdir -m 1777 /t && mkdir -m 500 /r && chmod 700 /root\n"),
    Case("the other escape", f"# escape=`\nFROM {BASE}\nRUN echo one `\n  two > /out\nWORKDIR /a`$b\\c\n"),
    Case("any case", f"from {BASE} as X\nrun\techo a > /a\nEnv A=b\nWorkDir /$A\nFROM x\nrun pwd > /c\n"),
    Case("what is only said", f"""\
FROM {BASE}
LABEL one=1 "two words"="a 'b'" three="$none x"
LABEL one=2
EXPOSE 80 53/udp
ENV PORT=90
EXPOSE $PORT
STOPSIGNAL SIGKILL
CMD echo one
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo", "$PORT"]
USER app:extra
WORKDIR /tmp/x/y
"""),
    Case("the entrypoint resets the command", f'FROM {BASE} AS a\nCMD ["a"]\nENTRYPOINT echo x\nFROM a\nENTRYPOINT ["b"]\n'),
    Case("from scratch", "FROM scratch\nCOPY dir /\nCOPY a.txt /deep/er/\nWORKDIR /w\nENV A=b\n", _TREE),
    Case("copied over", f"FROM {BASE}\nRUN echo old > /a && chmod 600 /a && mkdir -m 711 /d && chown 5:6 /d\nCOPY a.txt /a\nCOPY dir /d\nADD a.txt /etc/passwd\n", _TREE),
    Case("odd names", f'FROM {BASE}\nRUN touch "/$(printf "caf\\303\\251")" "/a  b" "/-x"\nCOPY sp*ce ü /n/\n', {"sp ace": "1", "ü": "2"}),
    Case("forgotten folders", f"""\
FROM {BASE}
RUN mkdir /have && echo x > /have/x
RUN --mount=type=cache,target=/new/cache,id=a --mount=type=tmpfs,target=/have \\
  ls -A /have /new/cache > /out && echo y > /have/y && echo y > /new/cache/y && stat -c %a /new/cache >> /out
RUN ls -A /have /new/cache >> /out
"""),
    Case("an argument is no variable of the image", f"FROM {BASE}\nARG A=1\nENV B=$A\nARG B=3\nRUN echo $A$B > /x\n"),
    Case("here-documents", f"""\
FROM {BASE}
RUN <<EOF
set -e
echo "$0" > /one
mkdir /d
EOF
RUN cat <<-'A' > /two && cat <<B > /three
\t\ttabs $HOME
A
home $HOME
B
RUN <<X
#!/bin/sh -e
echo script > /four
X
ENV V=v
COPY <<EOF <<"RAW" /docs/
value $V
EOF
value $V
RAW
""", why_not="here-documents came in 2021 with a front end of their own"),
)  # fmt: skip

REFUSED = (
    ("ADD https://example.org/x /x", "ADD https://example.org/x is outside the subset"),
    ("ADD git@example.org:a/b.git /x", "ADD git@example.org:a/b.git is outside the subset"),
    ("RUN --mount=type=secret,id=x true", "RUN --mount=type=secret,id=x is outside the subset"),
    ("RUN --mount=target=/x,source=a true", "RUN --mount=target=/x,source=a is outside the subset"),
    ("RUN --mount=type=cache,target=x true", "RUN --mount=type=cache,target=x needs an absolute target"),
    ("RUN --security=insecure true", "RUN --security is outside the subset"),
    ("RUN --network=host true", "RUN --network=host is outside the subset"),
    ("ONBUILD RUN true", "ONBUILD is outside the subset"),
    ("HEALTHCHECK CMD true", "HEALTHCHECK is outside the subset"),
    ("VOLUME /data", "VOLUME is outside the subset"),
    ("COPY --link a /b", "COPY --link is outside the subset"),
    ("COPY --parents a /b", "COPY --parents is outside the subset"),
    ("COPY --exclude=*.c . /b", "COPY --exclude is outside the subset"),
    ("ADD --checksum=sha256:0 a /b", "ADD --checksum is outside the subset"),
    ("COPY --chmod=u+x a /b", r"COPY --chmod=u\+x is outside the subset"),
    ("COPY --from=$X /a /b", r"COPY --from=\$X: variables are not replaced there"),
    ("INCLUDE other", "INCLUDE is no instruction"),
    ("WORKDIR ${x#y}", r"WORKDIR: '\$\{x#…\}' is outside the subset"),
    ("WORKDIR ${x/y/z}", r"WORKDIR: '\$\{x/…\}' is outside the subset"),
    ("WORKDIR ${x", "WORKDIR: .* is outside the subset"),
    ('ENV A="b', "ENV: .* quote that is not closed"),
    ("ENV A", "ENV: A has no value"),
    ("LABEL A=b c", "LABEL: 'c' is no pair"),
    ("SHELL /bin/sh", "SHELL takes the JSON form"),
    ("COPY a", "COPY needs a source and a destination"),
    ("RUN", "RUN needs an argument"),
    ("FROM a b", "FROM takes an image"),
    ("ARG 1x", "ARG: '1x' is no name"),
    ("RUN <<EOF\ntrue", "the here-document EOF is not closed"),
)
"""An instruction, and what is said of it: at line 3, before anything is built."""

FAILING = (
    ("COPY missing /x", {}, "line 2: COPY: 'missing' is not in the build context"),
    ("COPY a b /x", {"a": "", "b": ""}, "line 2: COPY: several sources need a destination that ends with a slash"),
    ("COPY *.none /x", {"a": ""}, "line 2: COPY: '\\*.none' is not in"),
    (
        "COPY a /x",
        {"a": "", ".dockerignore": "a"},
        "line 2: COPY: 'a' is not in the build context .* or is ignored there",
    ),
    ("COPY --from=nowhere /a /b", {}, "line 2: COPY: nothing says where the image nowhere is found"),
    ("COPY --from=3 /a /b", {}, "line 2: COPY: --from=3: there is no such stage"),
    ("COPY --chown=who a /x", {"a": ""}, "line 2: COPY: the user 'who'"),
    ("COPY d /bin/sh", {"d/x": ""}, "line 2: COPY: writing below /bin/busybox: it is no directory"),
    ("RUN echo before; exit 7", {}, "line 2: RUN 'echo before; exit 7' ended with 7; it had no network[^:]*: before"),
    ("USER who\nRUN true", {}, "line 3: RUN: the user 'who'"),
    ("EXPOSE http", {}, "line 2: EXPOSE: 'http' is no port"),
    ('ENV A="${B:?is needed}"', {}, "line 2: ENV: the variable B has to be set: is needed"),
    ('SHELL ["/no/such", "-c"]\nRUN true', {}, "line 3: RUN: start a command in the box"),
)
"""Instructions after FROM, their context, and the error when they are built."""


def base(folder: Path) -> Path | None:
    """A tiny root file system around this machine's busybox; None where there is no static one."""
    program = shutil.which("busybox")
    if program is None or b"statically" not in _kind(program):
        return None
    for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("home", 0o755)):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(mode)
    shutil.copy(program, folder / "bin" / "busybox")
    (folder / "bin" / "busybox").chmod(0o755)
    for applet in APPLETS:
        (folder / "bin" / applet).symlink_to("busybox")
    (folder / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\nnobody:x:65534:65534:n:/:/bin/sh\n"
    )
    (folder / "etc" / "group").write_text("root:x:0:\napp:x:1001:\nextra:x:2000:app\nnogroup:x:65534:\n")
    return folder


def _kind(program: str) -> bytes:
    """Whether a program needs others to be loaded: a static one names no loader."""
    head = Path(program).read_bytes()[:4096]
    return b"dynamic" if b"ld-linux" in head or b"ld-musl" in head else b"statically"


def write(case_files: Mapping[str, str | bytes | int], folder: Path) -> None:
    """Write the files of a context."""
    folder.mkdir(parents=True, exist_ok=True)
    modes: list[tuple[Path, int]] = []
    for name, content in case_files.items():
        path, _, mode = name.partition("|")
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("-> "):
            place.symlink_to(content[3:])
            continue
        if isinstance(content, int):
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        modes.append((place, int(mode or ("755" if place.is_dir() else "644"), 8)))
    for place, bits in modes:
        place.chmod(bits)
    for place in folder.rglob("*"):
        if place.is_dir() and not place.is_symlink() and place not in [p for p, _ in modes]:
            place.chmod(0o755)


# --- trees, written down ----------------------------------------------------------------------------------------------


def line(status: tuple[str, int, int, int], content: str) -> str:
    """What stands at a path, in one line."""
    kind, mode, user, group = status
    return f"{kind} {mode & 0o7777:o} {user}:{group} {content}".rstrip()


def content_of(file: IO[bytes]) -> str:
    data = file.read()
    text = data.decode("utf-8", "replace")
    return repr(text) if len(text) < 60 else hashlib.sha256(data).hexdigest()[:16]


def tree_of_layers(layers: Iterable[Path]) -> dict[str, str]:
    """Path → line, of what layers (top first) come to."""
    view = View(list(layers))
    tree: dict[str, str] = {}
    first: dict[tuple[int, int], str] = {}
    for node in view.walk(view.root()):
        status = node.status
        where = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        if node.is_dir:
            tree[node.path] = line(("dir", *where), "")
        elif node.is_link:
            tree[node.path] = line(("link", 0o777, *where[1:]), os.readlink(node.place))
        elif node.is_file:
            with open(node.place, "rb") as file:
                same = first.setdefault((status.st_dev, status.st_ino), node.path)
                tree[node.path] = line(("file", *where), content_of(file)) + (f" = {same}" if same != node.path else "")
        else:
            tree[node.path] = line(("fifo", *where), "")
    return quiet(tree)


def tree_of_tar(file: IO[bytes]) -> dict[str, str]:
    """The same of what an engine exports."""
    tree: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for member in archive:
            where = (member.mode, member.uid, member.gid)
            path = member.name.strip("./") if member.name.startswith("./") else member.name.rstrip("/")
            if member.isdir():
                tree[path] = line(("dir", *where), "")
            elif member.issym():
                tree[path] = line(("link", 0o777, *where[1:]), member.linkname)
            elif member.islnk():
                tree[path] = f"{tree[member.linkname]} = {member.linkname}"
            elif member.isreg():
                opened = archive.extractfile(member)
                assert opened is not None
                tree[path] = line(("file", *where), content_of(opened))
            elif member.isfifo():
                tree[path] = line(("fifo", *where), "")
    return quiet(tree)


def quiet(tree: Mapping[str, str]) -> dict[str, str]:
    """A tree without what engines put into every container, and without the base's programs."""
    noise = (*NOISE, "bin")
    return {p: what for p, what in tree.items() if p and not any(p == n or p.startswith(f"{n}/") for n in noise)}


def engine(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Call the command line of an engine: the distribution's own first, which has the builder with it."""
    program = next((p for p in ("/usr/bin/docker", shutil.which("docker")) if p and os.path.exists(p)), "docker")
    env = {**os.environ, "DOCKER_BUILDKIT": "1"}
    return subprocess.run([program, *arguments], input=stdin, capture_output=True, check=False, env=env)

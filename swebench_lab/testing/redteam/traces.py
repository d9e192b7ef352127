"""Attacks by what a box leaves to be kept and shown: layers, output with terminal sequences, text that is HTML."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.errors import LabError
from swebench_lab.testing.redteam.attack import Attack
from swebench_lab.testing.redteam.lures import hostile_tar

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.testing.redteam.ground import Ground

_TOO_LONG = 30.0


# --- layers -----------------------------------------------------------------------------------------------------------


def _packs(where: str, secret: str) -> Iterator[tuple[str, bytes]]:
    """Packed layers, each of which tries one way out; the last way is everything at once."""
    ways: dict[str, list[tuple[str, bytes, str]]] = {
        "a name with dots": [(f"testbed/../../../{where}", tarfile.REGTYPE, "")],
        "an absolute name": [(f"/tmp/{where}", tarfile.REGTYPE, "")],
        "a name below a link": [
            ("testbed/out", tarfile.SYMTYPE, "../../.."),
            (f"testbed/out/{where}", tarfile.REGTYPE, ""),
        ],
        "a link to the root": [("root", tarfile.SYMTYPE, "/"), (f"root/tmp/{where}", tarfile.REGTYPE, "")],
        "a hard link out": [
            ("testbed/got", tarfile.LNKTYPE, secret),
            ("testbed/again", tarfile.LNKTYPE, f"../../../../../..{secret}"),
        ],
        "a device": [("testbed/disk", tarfile.BLKTYPE, ""), ("testbed/memory", tarfile.CHRTYPE, "")],
        "a deletion outside": [(f"testbed/../../../.wh.{where}", tarfile.REGTYPE, ""), (".wh...", tarfile.REGTYPE, "")],
        "a link made a folder": [
            ("testbed", tarfile.SYMTYPE, "/tmp"),
            ("testbed", tarfile.DIRTYPE, ""),
            (f"testbed/{where}", tarfile.REGTYPE, ""),
        ],
    }
    for way, members in ways.items():
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            for name, kind, link in members:
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname, entry.mode, entry.devmajor, entry.devminor = kind, link, 0o755, 254, 0
                content = b"LAB-WAS-HERE" if kind == tarfile.REGTYPE else b""
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        yield way, buffer.getvalue()
    yield "everything at once", gzip.compress(hostile_tar(where))


def _unpack_hostile(ground: Ground, _box: Sandbox) -> str:
    """Unpack hostile layers, and open boxes on those that were let in."""
    from swebench_lab.sandbox.checkpoints import Layer

    where = f"escaped-{ground.mark}"
    secret = ground.folder / f".lab-canary-{ground.mark}"
    store = ground.folder / "layers" / "in" / "here"
    for way, content in _packs(where, str(secret)):
        archive = ground.folder / "layer.tar.gz"
        archive.write_bytes(content)
        try:
            layer = Layer.unpack(archive, store)
        except (LabError, OSError):
            layer = None
        if leak := _find_escape(ground, where, store) or _holds_secret(store, ground.token):
            return f"{way}: {leak}"
        if layer is not None and ground.token.encode() in _read_through(ground, layer):
            return f"{way}: a box on the unpacked layer read the canaries' secret"
    return ""


def _find_escape(ground: Ground, where: str, store: Path) -> str:
    places = [
        Path("/tmp", where),
        Path("/", where),
        *ground.folder.glob(where),
        *(ground.folder / "layers").rglob(where),
    ]
    for path in places:
        inside = path.parent.resolve().is_relative_to(store.resolve())
        if not inside and path.exists():
            path.unlink()
            return f"{path} was written"
    return ""


def _holds_secret(store: Path, token: str) -> str:
    for path in store.rglob("*") if store.exists() else ():
        if path.is_symlink():
            continue
        if path.is_file() and token in path.read_text(errors="replace"):
            return f"{path} holds the canaries' secret"
        if path.is_block_device() or (path.is_char_device() and path.stat().st_rdev):
            return f"{path} is a device"
    return ""


def _read_through(ground: Ground, layer: object) -> bytes:
    try:
        with ground.sandboxes.open(ground.snapshot, layers=[layer]) as other:  # type: ignore[list-item]
            return other.run(
                "cat got again out/* root/tmp/.lab-canary* 2>/dev/null; ls -la .", timeout=_TOO_LONG
            ).stdout
    except (LabError, OSError):
        return b""


def _checkpointed(ground: Ground, box: Sandbox) -> str:
    """Checkpoint a box full of planted things, and open another one on it."""
    try:
        layer = box.checkpoint()
    except LabError:
        return ""
    if leak := _holds_secret(layer.path, ground.token):
        return leak
    return (
        "a box on the layer read the canaries' secret" if ground.token.encode() in _read_through(ground, layer) else ""
    )


LAYERS = (
    Attack(
        "hostile packs",
        "layers",
        "Have a packed layer written outside its store by names, links, hard links and devices.",
        then=_unpack_hostile,
    ),
    Attack(
        "planted links in a checkpoint",
        "layers",
        "Have a checkpoint follow links and copy what they lead to.",
        program="""
            n=0
            for f in $LAB_FILES; do
                ln -s $f got
                mkdir -p d$n
                ln -s $(dirname $f) d$n/out
                n=$((n+1))
            done
            ln -s / root
            mkfifo p
            ln -s /dev/zero zero
            mknod whiteout c 0 0
            setfattr -n trusted.overlay.opaque -v y .
            setfattr -n user.overlay.redirect -v /etc d0
            setfattr -n trusted.overlay.redirect -v /../../etc d0
            true
        """,
        then=_checkpointed,
    ),
)

# --- what is shown ----------------------------------------------------------------------------------------------------

_HOSTILE = r"""
printf '\033[2J\033[31mred\033]0;title\007\033]8;;http://127.0.0.1/\007link\033]8;;\007\033]52;c;bGFi\007\033P+q\033\\'
printf '\233 31m\302\233 2J\r\b\b\177\342\200\256gnp.exe \357\273\277 \000 \377\376\n'
cat <<'END'
</pre></details></script><script>document.title="LAB"</script><img src=x onerror=alert(1)><svg onload=alert(2)>
<a href="javascript:alert(3)">x</a><iframe srcdoc="x"></iframe><style>*{display:none}</style>
<!-- <base href=//127.0.0.1> &lt;script&gt; ' " onmouseover=alert(4) '
END
"""


class _Elements(HTMLParser):
    """Collects what a browser would act on: kinds of elements, number of scripts, attributes that do something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.kinds: set[str] = set()
        self.scripts = 0
        self.acting: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.kinds.add(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            text = (value or "").strip().lower()
            leads = name in ("href", "src", "srcdoc", "action") and text.startswith(
                ("javascript:", "data:", "http:", "//")
            )
            if name.startswith("on") or leads:
                self.acting.append(f"{tag} {name}={text[:40]}")


def _show(_ground: Ground, box: Sandbox) -> str:
    """Show hostile output everywhere an attempt is shown: in its page, in notebooks, and in a terminal."""
    output = box.run(_HOSTILE, timeout=_TOO_LONG).output
    harmless, hostile = _views(_attempt("some words")), _views(_attempt(output))
    for name, html in hostile.items():
        if evidence := _acts(html, harmless[name]):
            return f"{name}: {evidence}"
    rollout = _attempt(output)
    for part in (rollout, rollout.trajectory, rollout.verdict, rollout.task):
        if _controls(repr(part)):
            return f"the repr of a {type(part).__name__} holds terminal sequences"
    return ""


def _views(rollout: Rollout) -> dict[str, str]:
    """Everything that shows an attempt as HTML."""
    from swebench_lab.viewer.page import page

    parts = (rollout, rollout.trajectory, rollout.trajectory.steps[0], rollout.verdict, rollout.task)
    views = {
        f"the HTML of a {type(part).__name__}": part._repr_html_() for part in parts if hasattr(part, "_repr_html_")
    }
    return {"the page": page(rollout), **views}


def _acts(html: str, harmless: str) -> str:
    """Say what hostile text made of a view, compared with one of harmless text."""
    if _controls(html):
        return "it holds control characters"
    if "\u202e" in html:
        return "it turns the direction of text"
    elements, usual = _Elements(html), _Elements(harmless)
    if elements.scripts > usual.scripts or elements.kinds - usual.kinds - {"details", "summary"}:
        return f"new elements: {', '.join(sorted(elements.kinds - usual.kinds)) or 'script'}"
    return ", ".join(sorted(set(elements.acting) - set(usual.acting))[:3])


def _controls(text: str) -> bool:
    return any((ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160 for char in text)


def _attempt(text: str) -> Rollout:
    """An attempt in which every field that others write holds a text."""
    from swebench_lab.records.reply import Reply
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.records.step import Step
    from swebench_lab.records.task import Task
    from swebench_lab.records.trajectory import Trajectory
    from swebench_lab.records.verdict import Verdict

    task = Task(
        id="redteam__shown-1",
        repo="redteam/shown",
        base_commit="0" * 40,
        issue=text,
        gold_patch=text,
        fail_to_pass=(f"t.py::test_a[{text}]",),
        pass_to_pass=(),
        hints=text,
    )
    step = Step.of(0, Reply(text, model=text), text, "bash", {"command": text}, text, text, 0, False, text, 0.1)
    trajectory = Trajectory(
        task.id,
        0,
        0,
        ({"role": "system", "content": text}, {"role": "user", "content": text}),
        (step,),
        "submitted",
        text,
        text,
        "a" * 16,
        text,
        "xml",
        "k" * 16,
        "none",
        1.0,
        1.0,
    )
    lists = {"success": (), "failure": task.fail_to_pass}
    verdict = Verdict(
        "unresolved",
        text,
        True,
        {task.fail_to_pass[0]: "FAILED"},
        lists,
        {"success": (), "failure": ()},
        1,
        1.0,
        text,
        (text,),
    )
    return Rollout(task, trajectory, verdict, 0.0)


OUTPUT = (
    Attack(
        "terminal sequences and HTML in output",
        "output",
        "Take over the terminal or the page in which an attempt is looked at.",
        then=_show,
    ),
)

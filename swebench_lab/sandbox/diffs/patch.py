"""The patch between a box's sealed start and its files now, made by git in the box, whatever the box did to git."""

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from swebench_lab.errors import PatchError, SandboxPathError
from swebench_lab.sandbox.diffs import git_rules
from swebench_lab.sandbox.diffs.changes import Tracked, WorkTreeChanges, index_of, tracked


class Output(Protocol):
    """What a command in a box ended with."""

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""

    @property
    def exit_code(self) -> int | None:
        """Its status; None where a signal ended it."""

    @property
    def signal(self) -> int | None:
        """The signal that ended it."""

    @property
    def timed_out(self) -> bool:
        """Whether it ran out of time."""

    @property
    def limit(self) -> str:
        """The bound that it ran into."""

    @property
    def stdout(self) -> bytes:
        """What it printed."""

    @property
    def stderr(self) -> bytes:
        """What it printed as errors."""

    @property
    def truncated_bytes(self) -> int:
        """How much of its output was left out."""


Ended = TypeVar("Ended", bound=Output, covariant=True)


class Start(Protocol):
    """The sealed start of a box."""

    @property
    def layers(self) -> tuple[Path, ...]:
        """Its read-only trees, the top one first."""

    @property
    def sealed_repository(self) -> Path:
        """Its sealed repository, on the host."""

    @property
    def head(self) -> str:
        """The commit that the work tree is compared with."""


class Box(Protocol[Ended]):
    """What making a patch needs of a box."""

    id: str
    workdir: str
    sealed_git: str
    private_temp: str
    other_temp: str

    @property
    def snapshot(self) -> Start:
        """What it started from."""

    def run(
        self,
        command: Sequence[str],
        /,
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: bytes | str | None = None,
        merge: bool = True,
        max_output: int = ...,
    ) -> Ended:
        """Run a program to its end."""

    def _touched(self) -> WorkTreeChanges | None:
        """Which paths of the work tree may have changed, at least; None where that cannot be told."""

    def _sweep(self) -> None:
        """End every process whose command has ended."""


# A git folder of our own that borrows only the sealed objects. Attributes: those of the sealed start, with every
# driver, filter and conversion that the box could have asked for in its own files switched off.
_PREPARE = r"""
set -eu
t=$LAB_TEMP/lab.$LAB_NAME
mkdir -m 700 "$t" "$t/git" "$t/git/objects" "$t/git/refs" "$t/git/info" "$t/none"; trap 'rm -rf "$t"' EXIT
cd -P "$LAB_WORK" 2>/dev/null || cd "$t/none"  # a work tree that is gone holds nothing
printf '%s\n' "$LAB_HEAD" >"$t/git/HEAD"
printf '[core]\n%s\n' repositoryformatversion=0 >"$t/git/config"
printf '%s\n' filemode=true bare=false autocrlf=false symlinks=true fsmonitor=false >>"$t/git/config"
export GIT_DIR=$t/git GIT_WORK_TREE=$PWD GIT_INDEX_FILE=$t/index GIT_OBJECT_DIRECTORY=$t/git/objects
export GIT_ALTERNATE_OBJECT_DIRECTORIES=$LAB_GIT/objects
{ echo '* !diff -filter -ident !eol -text !working-tree-encoding'
  if [ -z "${LAB_PLAIN-}" ]; then git cat-file blob "$LAB_HEAD:.gitattributes" 2>/dev/null || true; fi
} >"$t/git/info/attributes"
if [ -f "$LAB_GIT/info/exclude" ]; then printf '%s\n' "$(<"$LAB_GIT/info/exclude")" >"$t/git/info/exclude"; fi
"""

# What the box's own git was made to follow, against the rules about ignored files: `git add -f`. Its list is read by a git
# that knows nothing else of that repository.
_FORCED = r"""
forced() {
  if [ -f "$LAB_WORK/.git/index" ] && [ ! -L "$LAB_WORK/.git" ]; then
    GIT_INDEX_FILE=$LAB_WORK/.git/index git ls-files -z 2>/dev/null || true
  fi
}
"""

# New files inside a repository that the box made below the work tree are files like any other.
_STAGE = (
    _FORCED
    + r"""
git read-tree "$LAB_HEAD"
if ! git add --update -- . 2>/dev/null; then
  git ls-files -z >"$t/tracked"
  while IFS= read -r -d '' name; do  # git cannot hold a pipe, a socket or a device
    if [ -e "$name" ] && [ ! -f "$name" ] && [ ! -d "$name" ] && [ ! -L "$name" ]; then printf '%s\0' "$name"; fi
  done <"$t/tracked" | git update-index --force-remove -z --stdin
  git ls-files -z | git update-index --remove -z --stdin
fi
git ls-files -z --others --exclude-standard >"$t/others"
while IFS= read -r -d '' name; do
  case $name in
    */) find "$name" -name .git -prune -o \( -type f -o -type l \) -print0 ;;
    *) printf '%s\0' "$name" ;;
  esac
done <"$t/others" | git update-index --add -z --stdin
git ls-files -z | LC_ALL=C sort -z >"$t/held"
forced | LC_ALL=C sort -z | LC_ALL=C comm -z -23 - "$t/held" | while IFS= read -r -d '' name; do
  above=$name
  while [ "$above" != "${above%/*}" ] && [ ! -L "${above%/*}" ]; do above=${above%/*}; done
  if [ "$above" = "${above%/*}" ] && { [ -f "$name" ] || [ -L "$name" ]; }; then printf '%s\0' "$name"; fi
done | git update-index --add -z --stdin
"""
)

# The same from a list of paths that may have changed: the tracked ones first, then those that could be new.
_STAGE_LISTED = (
    _FORCED
    + r"""
git read-tree "$LAB_HEAD"
mapfile -d '' -t paths
for name in "${paths[@]:0:LAB_TRACKED}"; do printf '%s\0' "$name"; done >"$t/listed"
if (( ${#paths[@]} > LAB_TRACKED )); then
  for name in "${paths[@]:LAB_TRACKED}"; do printf './%s\0' "$name"; done >"$t/others"
  git check-ignore -z --stdin <"$t/others" >"$t/ignored" || (( $? == 1 ))
  declare -A ignored
  while IFS= read -r -d '' name; do ignored["$name"]=1; done <"$t/ignored"
  if [ -s "$t/ignored" ]; then
    while IFS= read -r -d '' name; do unset "ignored[./$name]"; done < <(forced)
  fi
  for name in "${paths[@]:LAB_TRACKED}"; do
    if [ -z "${ignored["./$name"]+x}" ]; then printf '%s\0' "$name"; fi
  done >>"$t/listed"
fi
git update-index --add --remove --replace -z --stdin <"$t/listed"
"""
)

_FORM = "--binary --no-renames --no-color --no-ext-diff --no-textconv --src-prefix=a/ --dst-prefix=b/"
_DIFF = f"git diff --cached {_FORM}"
_COMPARE = ("git", "-c", "core.attributesFile=/dev/null", "diff", *_FORM.split())
_COMPARE_ENV = {"GIT_INDEX_FILE": "/proc/self/fd/0", "GIT_LITERAL_PATHSPECS": "1"}

_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_CEILING_DIRECTORIES": "/",
    "GIT_EXEC_PATH": None,
    "GIT_EXTERNAL_DIFF": None,
    "BASH_ENV": None,
    "LD_PRELOAD": None,
    "LD_LIBRARY_PATH": None,
    "PYTHONPATH": None,
}
_MOST = 1 << 30  # bytes of a patch
_MOST_NAMED = 64 << 10  # bytes of paths that are named as arguments
_KILLED = range(129, 160)  # how a shell says that a signal ended one of its programs
_SECONDS = 300.0  # a box can hold files that take git for ever


def diff(box: Box[Output]) -> str:
    """The patch from the sealed start of a box to its work tree."""
    changes = box._touched()
    if changes is not None and not changes:
        return ""
    try:
        content = _diff_by_hints(box, changes) if changes else None
    except SandboxPathError:  # the work tree is no directory any more
        content = None
    if content is None:
        content = _git(box, f"{_STAGE}{_DIFF} {box.snapshot.head}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        content = _with_binary(box)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        around = content[max(0, error.start - 200) : error.start].decode("utf-8", "replace")
        raise PatchError(
            f"making the patch of sandbox {box.id}: a link leads to a name that is no text, after {around!r}"
        ) from error


def _diff_by_hints(box: Box[Output], changes: WorkTreeChanges) -> bytes | None:
    """The patch of paths that may have changed; None where git has to look at everything."""
    index = tracked(box.snapshot.sealed_repository / "index")
    if index is None:
        return None
    old = index.touched_by(changes)
    patch = _compared(box, changes, index, old)
    return patch if patch is not None else _diff_by_script(box, changes, index, old)


def _compared(box: Box[Output], changes: WorkTreeChanges, index: Tracked, old: set[bytes]) -> bytes | None:
    """The same by one process of git, which compares the work tree with the start; None where that is not enough.

    What git needs besides the sealed repository is a list of paths, which it is handed as its index. The list cannot
    hold a file together with what is below it, and no rule about ignoring or converting may concern what it holds.
    """
    replaced = {above for path in changes.written for above in _above(path)}
    if changes.odd or replaced & changes.written or not replaced.intersection(index.names) <= old:
        return None
    there = changes.written.union(path for path in old - replaced if changes.written.isdisjoint(_above(path)))
    if sum(map(len, there | old)) > _MOST_NAMED or _is_ruled(box, there, there - old):
        return None
    result = box.run(
        [*_COMPARE, box.snapshot.head, "--", *sorted(map(os.fsdecode, there | old))],
        cwd=box.workdir,
        env={**_ENV, "GIT_DIR": box.sealed_git, "GIT_WORK_TREE": box.workdir, **_COMPARE_ENV},
        stdin=index_of(there),
        merge=False,
        max_output=_MOST,
        timeout=_SECONDS,
    )
    return result.stdout if result.ok and not result.truncated_bytes and not result.stderr else None


def _above(path: bytes) -> list[bytes]:
    """The directories that a path is in."""
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]


def _is_ruled(box: Box[Output], there: set[bytes], new: set[bytes]) -> bool:
    """Whether git may convert one of these paths, or ignore a new one."""
    start, info = (box.snapshot.layers, box.workdir), box.snapshot.sealed_repository / "info"
    return any(
        git_rules.may_concern(name, path, *start) or git_rules.may_match(info / file, path)
        for name, file, paths in ((git_rules.CONVERTED, "attributes", there), (git_rules.IGNORED, "exclude", new))
        for path in paths
    )


def _diff_by_script(box: Box[Output], changes: WorkTreeChanges, index: Tracked, touched: set[bytes]) -> bytes | None:
    """The same by a script that asks git about each path; None where that fails."""
    old, new = sorted(touched), sorted(changes.written - touched)
    settings = f"LAB_TRACKED={len(old)}\n" + ("" if b".gitattributes" in index.names else "LAB_PLAIN=yes\n")
    paths = b"".join(path + b"\0" for path in (*old, *new))
    result = _look(box, f"{_STAGE_LISTED}{_DIFF} {box.snapshot.head}", paths, settings)
    return result.stdout if result.ok and not result.truncated_bytes else None


def _with_binary(box: Box[Output]) -> bytes:
    """The patch with every file that is no UTF-8 text written as a binary one, so that a patch is always text."""
    mark = f"""
{_DIFF} --name-only -z {box.snapshot.head} | while IFS= read -r -d '' name; do
  if ! {_DIFF} {box.snapshot.head} -- ":(top,literal)$name" | iconv -f UTF-8 -t UTF-8 >/dev/null 2>&1; then
    printf '"%s" -diff\\n' "$(printf '%s' "$name" | sed 's/[\\\\"]/\\\\&/g; s/[][*?]/\\\\\\\\&/g')"
  fi
done >"$t/binary"
cat "$t/binary" >>"$t/git/info/attributes"
"""
    return _git(box, f"{_STAGE}{mark}{_DIFF} {box.snapshot.head}")


def apply(box: Box[Ended], patch: str) -> Ended:
    """Apply a patch to the work tree of a box; nothing changes unless all of it applies."""
    if patch and not patch.endswith("\n"):
        patch += "\n"
    return _script(box, "git apply --whitespace=nowarn --verbose -", box.private_temp, cwd=box.workdir, stdin=patch)


def _git(box: Box[Output], script: str) -> bytes:
    result = _look(box, script)
    doing = f"making the patch of sandbox {box.id} in {box.workdir}"
    if result.timed_out:
        why = f"git was not done after {_SECONDS:g} s; the work tree holds files too large to be told as a patch"
        raise PatchError(f"{doing}: {why}")
    if not result.ok or result.truncated_bytes:
        output = result.stderr.decode(errors="replace").strip()[-2000:] or "nothing"
        raise PatchError(
            f"{doing}: git ended with {result.exit_code}, {result.limit or 'no'} limit, and said: {output}"
        )
    return result.stdout


def _look(box: Box[Ended], script: str, stdin: bytes | None = None, settings: str = "") -> Ended:
    """Run a script over the work tree; what ended commands left behind, files or processes, is not to be in its way."""
    result = _script(box, script, box.private_temp, cwd="/", stdin=stdin, merge=False, given=settings)
    if result.ok or result.timed_out:
        return result
    if result.signal or result.exit_code in _KILLED:
        box._sweep()
    return _script(box, script, box.other_temp, cwd="/", stdin=stdin, merge=False, given=settings)


def _script(
    box: Box[Ended],
    script: str,
    temp: str,
    *,
    cwd: str,
    stdin: str | bytes | None = None,
    merge: bool = True,
    given: str = "",
) -> Ended:
    places = {
        "LAB_HEAD": box.snapshot.head,
        "LAB_GIT": box.sealed_git,
        "LAB_WORK": box.workdir,
        "LAB_TEMP": temp,
        "LAB_NAME": secrets.token_hex(8),
    }
    given += "".join(f"{name}={shlex.quote(value)}\n" for name, value in places.items())
    return box.run(
        ["/bin/bash", "--norc", "--noprofile", "-c", f"{given}{_PREPARE}{script}"],
        cwd=cwd,
        env=_ENV,
        stdin=stdin,
        merge=merge,
        max_output=_MOST,
        timeout=_SECONDS,
    )

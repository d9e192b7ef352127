"""Sources: where a task's repository comes from, and how its clean files are written to a folder of the host.

| `task.source` | what it is |
|---|---|
| `demo:<name>`, `micro:<name>` | a folder bundled with the package |
| `pypi:<name>==<version>` | a source distribution, downloaded once |
| a path or `file://` URL | a git repository (with or without work tree), or a plain folder |
| any other URL | a git repository, mirrored once into the cache |
| empty | from `task.repo`: bundled, or below a folder of clones, or on GitHub |

What has no history of its own becomes a repository of one commit with a fixed author, date and message, so that the
same files have the same commit on every machine. File modes are made from the content, since wheels do not keep them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.repository.git import git, make_repository
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

log = logging.getLogger(__name__)

IDENTITY = "swebench_lab <swebench_lab@localhost>"
IMPORT_DATE = 1577836800
"""2020-01-01T00:00:00Z: when every imported commit was made, in seconds."""

_LEFT_OUT = {
    ".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".venv",
    "venv", "node_modules", ".ipynb_checkpoints", ".DS_Store",
}  # fmt: skip
_MOST_BYTES = 1 << 30  # of one unpacked archive: above the largest known sdists, below what would fill a disk
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

REPOS_VARIABLE = "SWEBENCH_LAB_REPOS"
"""The variable that names folders of clones, several of them separated as in `PATH`; read where none are given."""

BUNDLED = ("demo:", "micro:")
_IMPORT = "imported.git"  # folder name of a repository made here, of files that have no history

_File = tuple[str, str, bytes]  # path from the root, git's mode, content (a link's target)


@dataclass(frozen=True, slots=True)
class Source:
    """A repository on the host, read through its object store only.

    Args:
        name: What it was asked for by.
        git_dir: Its git folder.
        head: The commit that a task starts from when it names none.
    """

    name: str
    git_dir: Path
    head: str

    @property
    def objects(self) -> Path:
        """The folder of its objects, also when the repository is a linked work tree's."""
        return common_dir(self.git_dir) / "objects"

    @property
    def shallow(self) -> tuple[str, ...]:
        """Commits whose parents it does not have."""
        try:
            return tuple((common_dir(self.git_dir) / "shallow").read_text().split())
        except FileNotFoundError:
            return ()

    def resolve(self, revision: str = "") -> str:
        """Return the full name of a commit.

        Raises:
            SnapshotError: The repository has no such commit.
        """
        target = revision or self.head
        doing = f"looking for commit {target!r} in {self.name}"
        if target.startswith("-"):
            raise SnapshotError(f"{doing}: not the name of a commit")
        try:
            return git("rev-parse", "--verify", f"{target}^{{commit}}", git_dir=self.git_dir).decode().strip()
        except SnapshotError as error:
            hint = (
                "fetch it there" if self.git_dir.name != _IMPORT else "the files are not those the task was made from"
            )
            raise SnapshotError(f"{doing}: it is not there (its head is {self.head[:12]}); {hint}") from error

    def checkout(self, folder: Path, commit: str = "") -> str:
        """Write the clean files of a commit into a new folder, without a `.git`, and return the commit's full name."""
        sha = self.resolve(commit)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="swebench_lab-") as name:
            git_dir = Path(name) / "git"
            make_repository(git_dir)
            read_tree(self, sha, git_dir, folder)
        return sha


def read_tree(source: Source, commit: str, git_dir: Path, work_tree: Path) -> None:
    """Write a commit's files into an empty work tree, and their names into the repository's index."""
    doing = f"writing the files of {source.name} at {commit[:12]}"
    git(
        "read-tree",
        "--reset",
        "-u",
        commit,
        git_dir=git_dir,
        work_tree=work_tree,
        objects=[source.objects],
        doing=doing,
    )


def open_source(
    text: str,
    cache: Path,
    repo: str = "",
    commit: str = "",
    *,
    repos: Sequence[Path] | None = None,
    build_once: BuildOnce = store.build_once,
) -> Source:
    """Find a task's repository, bringing it onto this machine when that is needed.

    Args:
        text: `task.source`.
        cache: Folder in which imported and downloaded repositories are kept; afterwards no network is needed.
        repo: `task.repo`, for tasks that name no source.
        commit: The commit that must be there; a mirror that lacks it is fetched anew.
        repos: Folders of clones, where `repo` is looked for first; those that `$SWEBENCH_LAB_REPOS` names when not given.
        build_once: Builds a folder of the cache where it is not there.

    Raises:
        SnapshotError: It is not there, cannot be downloaded, or lacks the commit.
    """
    source_cache = _Cache(cache, build_once)
    if not text:
        return _from_repo(repo, source_cache, commit, default_repos() if repos is None else repos)
    if text.startswith(BUNDLED):
        return _bundle(text, source_cache)
    if text.startswith("pypi:"):
        return _from_pypi(text, source_cache)
    if text.startswith("file://"):
        text = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
    elif is_remote(text):
        return _mirror(text, source_cache, commit)
    return _from_path(text, source_cache)


@dataclass(frozen=True, slots=True)
class _Cache:
    """Where imported and downloaded repositories are kept, and how."""

    root: Path
    build_once: BuildOnce


def default_repos() -> tuple[Path, ...]:
    """Return the folders of clones that `$SWEBENCH_LAB_REPOS` names, separated as in `PATH`."""
    return tuple(Path(root) for root in os.environ.get(REPOS_VARIABLE, "").split(os.pathsep) if root)


def is_bundled(repo: str) -> bool:
    """Whether a repository of this name comes with the package."""
    return repo.startswith(("demo/", "micro/"))


def is_full_name(commit: str) -> bool:
    """Whether it is the full name of a commit, which no repository has to be asked about."""
    return _SHA.fullmatch(commit) is not None


def is_remote(text: str) -> bool:
    """Whether it names another machine: `https://…`, `ssh://…`, `user@host:path`."""
    return "://" in text or (re.match(r"[\w.-]+@[\w.-]+:", text) is not None and not Path(text).exists())


def _from_repo(repo: str, cache: _Cache, commit: str, repos: Sequence[Path]) -> Source:
    if not repo:
        raise SnapshotError("finding a repository: the task names neither a source nor a repo")
    if is_bundled(repo):
        return _bundle(repo.replace("/", ":", 1), cache)
    if (clone := clone_of(repo, repos)) is not None:
        return _from_path(str(clone), cache)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise SnapshotError(f"finding repository {repo!r}: not of the form owner/name; set the task's source instead")
    return _mirror(f"https://github.com/{repo}.git", cache, commit)


def clone_of(repo: str, repos: Sequence[Path]) -> Path | None:
    """Return a repository's clone below some folders."""
    names = (repo, repo.replace("/", "__"), repo.rpartition("/")[2])
    places = (Path(root, name + end) for root in repos for name in names if name for end in ("", ".git"))
    return next((folder for folder in places if folder.is_dir()), None)


# --- git repositories -------------------------------------------------------------------------------------------------


def _from_path(text: str, cache: _Cache) -> Source:
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise SnapshotError(f"finding repository {text!r}: there is no such folder")
    git_dir = git_dir_of(path)
    if git_dir is None:
        state = _state_of(path)
        previous = _imports.get((text, cache.root))
        if previous is not None and previous[0] == state and previous[1].objects.exists():
            return previous[1]
        entries = list(_folder_files(path))
        if not entries:
            raise SnapshotError(f"importing {text!r}: the folder is empty, and it is no git repository")
        source = _import_tree(text, path.name, entries, cache)
        _imports[text, cache.root] = state, source
        return source
    head = git("rev-parse", "--verify", "HEAD^{commit}", git_dir=git_dir, doing=f"reading the repository at {text!r}")
    return Source(text, git_dir, head.decode().strip())


_imports: dict[tuple[str, Path], tuple[str, Source]] = {}
"""The last import of each folder, with the state that the folder was in: files are read again when one was changed."""


def _state_of(root: Path) -> str:
    """Return a digest over names, sizes, inodes and times of all below a folder."""
    state = hashlib.sha256()
    waiting = [os.fspath(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name in _LEFT_OUT:
                    continue
                s = entry.stat(follow_symlinks=False)
                state.update(
                    f"{entry.path}\0{s.st_mode} {s.st_size} {s.st_ino} {s.st_mtime_ns} {s.st_ctime_ns}\n".encode(
                        "utf-8", "surrogateescape"
                    )
                )
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return state.hexdigest()


def git_dir_of(path: Path) -> Path | None:
    """Return the git folder of a work tree, a linked work tree, a submodule or a bare repository; else nothing."""
    inner = path / ".git"
    if inner.is_dir():
        return inner
    if inner.is_file():
        name = inner.read_text(errors="replace").strip().removeprefix("gitdir:").strip()
        return (path / name).resolve()
    if (path / "objects").is_dir() and (path / "HEAD").is_file():
        return path
    return None


def common_dir(git_dir: Path) -> Path:
    """Return where a git folder keeps its objects: itself, but for a linked work tree's."""
    try:
        return (git_dir / (git_dir / "commondir").read_text().strip()).resolve()
    except (FileNotFoundError, NotADirectoryError):
        return git_dir


def _mirror(url: str, cache: _Cache, commit: str) -> Source:
    """Clone a repository into the cache, once; fetch again when a commit that is wanted is missing."""
    folder = mirror_folder(url, cache.root)
    git_dir = folder / "repository"

    def build(temporary: Path) -> dict[str, str]:
        hint = "without the network, name a folder of clones: SandboxFactory(repos=…) or $SWEBENCH_LAB_REPOS"
        doing = f"cloning {no_secret(url)}; {hint}"
        log.info("cloning %s", no_secret(url))
        git("clone", "--quiet", "--mirror", "--", url, temporary / "repository", doing=doing, user_config=True)
        return {"name": no_secret(url)}

    cache.build_once(folder, build)
    if is_full_name(commit) and not _has(git_dir, commit):
        with _files.locked(cache.root / "locks" / f"fetch-{folder.name}.lock"):
            if not _has(git_dir, commit):
                log.info("fetching commit %s of %s", commit[:12], no_secret(url))
                doing = f"fetching commit {commit[:12]} of {no_secret(url)}"
                git("fetch", "--quiet", "--all", "--tags", git_dir=git_dir, doing=doing, user_config=True)
                if not _has(git_dir, commit):
                    git("fetch", "--quiet", "origin", commit, git_dir=git_dir, doing=doing, user_config=True)
    head = git(
        "rev-parse", "--verify", "HEAD^{commit}", git_dir=git_dir, doing=f"reading the mirror of {no_secret(url)}"
    )
    return Source(no_secret(url), git_dir, head.decode().strip())


def mirror_folder(url: str, root: Path) -> Path:
    """Return where the mirror of a repository is kept."""
    name = re.sub(r"[^\w.-]+", "-", url.rpartition("/")[2].removesuffix(".git"))
    return root / "sources" / f"git-{name}-{_files.digest_of(url)[:12]}"


def _has(git_dir: Path, commit: str) -> bool:
    answer = git("cat-file", "--batch-check", git_dir=git_dir, data=f"{commit}\n")
    return b" commit " in answer


def no_secret(url: str) -> str:
    """Return the URL without a user name or password in it, for messages and records."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


# --- what has no history ----------------------------------------------------------------------------------------------


def _bundle(text: str, cache: _Cache) -> Source:
    kind, _, suffix = text.partition(":")
    name = store.checked_name(suffix, "finding a bundled repository")
    root = Path(str(files("swebench_lab"))) / "bundled" / kind / "repos"
    if not (root / name).is_dir():
        names = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        raise SnapshotError(
            f"finding bundled repository {name!r}: there is none; known are {', '.join(names) or 'none'}"
        )
    return _import_tree(text, name, _folder_files(root / name), cache)


def _from_pypi(text: str, cache: _Cache) -> Source:
    """Import a source distribution; the archive is downloaded once and the network not needed again."""
    match = re.fullmatch(r"pypi:([A-Za-z0-9][\w.-]*)==([A-Za-z0-9][\w.!+-]*)", text)
    if match is None:
        raise SnapshotError(f"reading source {text!r}: expected 'pypi:name==version'")
    name, version = re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]
    folder = cache.root / "downloads" / f"{name}-{version}"
    marker, _ = cache.build_once(folder, lambda temporary: {"archive": _download(name, version, temporary).name})
    return _import_tree(text, name, _archive_files(folder / marker["archive"]), cache)


def _download(name: str, version: str, folder: Path) -> Path:
    doing = f"downloading the source distribution of {name} {version}"
    log.info(doing)
    try:
        # Only this project must come as source: with ":all:" pip would also build every build tool from source.
        result = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--no-binary", name, "--dest", str(folder), f"{name}=={version}"],
            capture_output=True, text=True, check=False, cwd=folder, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise SnapshotError(f"{doing}: cannot run pip: {error}") from error
    archives = [p for p in folder.iterdir() if p.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"))]
    if result.returncode or len(archives) != 1:
        output = " / ".join((result.stderr or result.stdout).strip().splitlines()[-4:])
        raise SnapshotError(f"{doing}: {output or 'pip found none'}. This needs the network once")
    return archives[0]


def _import_tree(text: str, name: str, entries: Iterable[_File], cache: _Cache) -> Source:
    """Return a repository of one commit that holds these files; made once per content."""
    tree = sorted(entries)
    total = hashlib.sha256()
    for path, mode, content in tree:
        total.update(f"{mode} {len(content)} {path}\0".encode("utf-8", "surrogateescape") + content)
    folder = cache.root / "sources" / f"import-{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}-{total.hexdigest()[:16]}"

    def build(temporary: Path) -> dict[str, str]:
        git_dir = temporary / _IMPORT
        make_repository(git_dir)
        git("fast-import", "--quiet", "--date-format=raw", git_dir=git_dir, data=b"".join(_stream(tree)),
            doing=f"importing {text!r}")  # fmt: skip
        return {"name": text, "head": (git_dir / "refs" / "heads" / "main").read_text().strip()}

    marker, _ = cache.build_once(folder, build)
    return Source(text, folder / _IMPORT, marker["head"])


def _stream(tree: list[_File]) -> Iterator[bytes]:
    """Yield what `git fast-import` reads: one commit that adds these files."""
    message = b"Imported files\n"
    yield f"commit refs/heads/main\ncommitter {IDENTITY} {IMPORT_DATE} +0000\n".encode()
    yield b"data %d\n%b" % (len(message), message)
    for path, mode, content in tree:
        quoted = path.replace("\\", "\\\\").replace('"', '\\"')
        yield f'M {mode} inline "{quoted}"\n'.encode("utf-8", "surrogateescape")
        yield b"data %d\n%b\n" % (len(content), content)
    yield b"done\n"


def _mode_of(content: bytes) -> str:
    """Return git's mode of a file: executable exactly when it starts with an interpreter line."""
    return "100755" if content.startswith(b"#!") else "100644"


def _folder_files(root: Path) -> Iterator[_File]:
    for where, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT)
        links = [f for f in folders if Path(where, f).is_symlink()]
        for name in (*names, *links):
            path = Path(where, name)
            relative = path.relative_to(root).as_posix()
            if name in _LEFT_OUT or name.endswith((".pyc", ".pyo")):
                continue
            _check_path(relative, str(root))
            if path.is_symlink():
                yield relative, "120000", _check_link(relative, os.readlink(path), str(root))
            elif path.is_file():
                content = path.read_bytes()
                yield relative, _mode_of(content), content


def _archive_files(archive: Path) -> Iterator[_File]:
    """Yield the files of a source distribution below its one top folder; nothing is written to the disk."""
    read = _zip_members if archive.suffix == ".zip" else _tar_members
    total = 0
    for path, target, content in read(archive):
        relative = path.partition("/")[2]
        if not relative or relative.endswith((".pyc", ".pyo")):
            continue
        _check_path(relative, archive.name)
        total += len(content)
        if total > _MOST_BYTES:
            raise SnapshotError(f"unpacking {archive.name}: more than {_MOST_BYTES >> 20} MiB of files")
        if target:
            yield relative, "120000", _check_link(relative, target, archive.name)
        else:
            yield relative, _mode_of(content), content


def _tar_members(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.issym():
                    yield name, member.linkname, b""
                elif member.isreg() or member.islnk():
                    file = tar.extractfile(member)
                    yield name, "", file.read(_MOST_BYTES + 1) if file else b""
    except (tarfile.TarError, EOFError, KeyError) as error:
        raise SnapshotError(
            f"unpacking {archive.name}: {error}; delete {archive.parent} to download it again"
        ) from error


def _zip_members(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    try:
        with zipfile.ZipFile(archive) as zip_file:
            for entry in zip_file.infolist():
                if not entry.is_dir():
                    with zip_file.open(entry) as file:
                        yield entry.filename, "", file.read(_MOST_BYTES + 1)
    except zipfile.BadZipFile as error:
        raise SnapshotError(
            f"unpacking {archive.name}: {error}; delete {archive.parent} to download it again"
        ) from error


def _check_path(path: str, where: str) -> None:
    """Refuse names that would leave the tree, or reach into a repository's own folder."""
    parts = path.split("/")
    if path.startswith("/") or "\n" in path or any(p in ("", ".", "..") or p.lower() == ".git" for p in parts):
        raise SnapshotError(f"importing {where}: {path!r} is not a path inside the tree")


def _check_link(path: str, target: str, where: str) -> bytes:
    """Return a link's target when it stays inside the tree."""
    place = list(PurePosixPath(path).parent.parts)
    for part in PurePosixPath(target).parts:
        if (part == ".." and not place) or part == "/":
            raise SnapshotError(f"importing {where}: the link {path!r} leads out of the tree, to {target!r}")
        place = place[:-1] if part == ".." else [*place, part]
    return os.fsencode(target)

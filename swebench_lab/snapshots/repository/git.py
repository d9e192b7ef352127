"""Host git: runs git on repositories of the host with every configuration, hook and prompt switched off.

Repositories are always named (`GIT_DIR`), never discovered, so their owner does not matter; foreign ones are read
through their object store only (`GIT_ALTERNATE_OBJECT_DIRECTORIES`), so their configuration is never read either.
Never point this at files that an agent wrote.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from swebench_lab.errors import SnapshotError

CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = {bare}
\tlogallrefupdates = false
\tcheckStat = minimal
\ttrustctime = false
\tautocrlf = false
[gc]
\tauto = 0
"""
"""Configuration of repositories made here. A file is judged by size and modification time alone, because inode numbers
and change times differ between the host and every box; without that, each box would read all files anew."""

_OFF = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
    "TZ": "UTC",
}
_ALWAYS = (
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "core.fsmonitor=false",
    "-c",
    f"core.attributesFile={os.devnull}",
)


def git(
    *arguments: str | Path,
    git_dir: Path | None = None,
    work_tree: Path | None = None,
    objects: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    data: bytes | str = b"",
    doing: str = "",
    user_config: bool = False,
) -> bytes:
    """Run git on the host and return what it printed.

    Args:
        *arguments: The subcommand and its arguments.
        git_dir: The repository; never discovered.
        work_tree: Its work tree, which is also the working directory.
        objects: Further object folders that are read.
        env: Further variables.
        data: Standard input.
        doing: What is being done, for the error: "applying the setup patch of task x".
        user_config: Whether the user's own configuration counts, which may hold a proxy or a login; only for talking to
            other machines only.

    Raises:
        SnapshotError: git is missing, or it failed; the message carries what it said.
    """
    off = {k: v for k, v in _OFF.items() if not (user_config and k.startswith("GIT_CONFIG_"))}
    variables = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | off | dict(env or {})
    variables |= {"GIT_DIR": str(git_dir)} if git_dir is not None else {}
    variables |= {"GIT_WORK_TREE": str(work_tree)} if work_tree is not None else {}
    variables |= {"GIT_ALTERNATE_OBJECT_DIRECTORIES": os.pathsep.join(map(_quote, objects))} if objects else {}
    doing = doing or f"running git {arguments[0]}"
    try:
        result = subprocess.run(
            ["git", *_ALWAYS, *map(str, arguments)],
            input=data.encode() if isinstance(data, str) else data,
            capture_output=True,
            env=variables,
            cwd=work_tree or git_dir or "/",
            check=False,
        )
    except FileNotFoundError as error:
        raise SnapshotError(f"{doing}: the program git is not installed; install it and try again") from error
    if result.returncode:
        output = result.stderr.decode("utf-8", "replace").strip() or f"git ended with status {result.returncode}"
        raise SnapshotError(f"{doing}: {output}")
    return result.stdout


def make_repository(git_dir: Path, bare: bool = True) -> None:
    """Write an empty repository: no templates, no hooks, no description, HEAD on the unborn branch `main`."""
    for name in ("objects/info", "objects/pack", "refs/heads"):
        (git_dir / name).mkdir(parents=True)
    (git_dir / "config").write_text(CONFIG.format(bare=str(bare).lower()))
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")


def _quote(path: Path) -> str:
    """Return a folder as git's list of object folders wants it: quoted when it holds the separator or a quote."""
    text = str(path)
    if os.pathsep not in text and '"' not in text:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

"""Build boxes: the variables of boxes that builds run in, and which package indexes they are given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

from swebench_lab.snapshots.environment.index_relay import IndexRelay

TEMPORARY = "/tmp/lab-build"
"""Where builds keep what is thrown away afterwards."""

_SETTINGS = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "PIP_INDEX_URL",
             "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")  # fmt: skip


def index_variables() -> dict[str, str]:
    """Return the settings of uv and pip that name package indexes, as this user has made them."""
    return {name: os.environ[name] for name in _SETTINGS if name in os.environ} | index_settings()


def index_settings() -> dict[str, str]:
    """Return pip's index settings as uv's variables, where uv has none of its own: uv does not read pip's files."""
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS"}
    if any(os.environ.get(name) for name in (*names.values(), "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")):
        return {}
    result = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    settings: dict[str, str] = {}
    for key, value in re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", result.stdout, re.MULTILINE):
        if key in names:
            settings[names[key]] = " ".join(value.replace("\\n", " ").split())
    # pip takes the best version that any of its indexes has; uv would stop at the first index with the name.
    return settings | ({"UV_INDEX_STRATEGY": "unsafe-best-match"} if "UV_INDEX" in settings else {})


def build_variables(path: str) -> dict[str, str]:
    """Return the variables of every command of a build but those that name an index.

    Args:
        path: Where programs are looked for.
    """
    return {"HOME": f"{TEMPORARY}/home", "TMPDIR": f"{TEMPORARY}/tmp", "UV_CACHE_DIR": f"{TEMPORARY}/uv",
            "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PATH": path}  # fmt: skip


def relay_variables(relay: IndexRelay, settings: Mapping[str, str], local: Sequence[Path]) -> dict[str, str]:
    """Return the variables that name the indexes of a build: the relay, and folders of this machine that it is shown."""
    variables = relay.variables()
    for uv_name, pip_name in (("UV_INDEX", "PIP_EXTRA_INDEX_URL"), ("UV_FIND_LINKS", "PIP_FIND_LINKS")):
        words = [
            w for w in settings.get(uv_name, settings.get(pip_name, "")).split() if w.startswith(("file:///", "/"))
        ]
        if words and local:
            value = " ".join(filter(None, (variables.get(uv_name, ""), *words)))
            variables |= {uv_name: value, pip_name: value, "UV_INDEX_STRATEGY": "unsafe-best-match"}
    first = settings.get("UV_DEFAULT_INDEX", "")
    if first.startswith(("file:///", "/")):
        variables |= {"UV_DEFAULT_INDEX": first, "PIP_INDEX_URL": first}
    return variables


def local_indexes(settings: Mapping[str, str]) -> list[Path]:
    """Return the folders of this machine that the index settings name, which the box must show to be of use."""
    names = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")
    words = " ".join(settings.get(name, "") for name in names).split()
    places = (
        Path(urllib.parse.unquote(word.removeprefix("file://"))) for word in words if word.startswith(("file:///", "/"))
    )
    # An index is a folder beside its files, so its parent is shown.
    folders = {(place.parent if place.name == "simple" else place).resolve() for place in places}
    return sorted(folder for folder in folders if folder.is_dir() and folder != Path("/"))

"""Places: where the workbench keeps what it makes, when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def default_root() -> Path:
    """Return where Snapshots are kept: `$SWEBENCH_LAB_CACHE`, else `swebench_lab` in the user's cache folder."""
    if root := os.environ.get("SWEBENCH_LAB_CACHE"):
        return Path(root).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "swebench_lab"


def default_certificates() -> Path:
    """Return where certificates are kept: beside the Snapshots."""
    return default_root() / "certificates"

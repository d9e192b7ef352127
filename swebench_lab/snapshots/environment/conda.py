"""A layer that lets scripts written for images with conda run unchanged in our own venv.

`source /opt/miniconda3/bin/activate; conda activate testbed` is how the published eval scripts begin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

_VERSION = "1"
_ACTIVATE = """\
# Stands in for conda's own: activating the environment "testbed" means the venv of this box.
conda () {
    case "${1:-}" in
        activate)
            PATH="/opt/venv/bin:$PATH" VIRTUAL_ENV=/opt/venv CONDA_PREFIX=/opt/venv CONDA_DEFAULT_ENV="${2:-base}"
            export PATH VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV
            hash -r 2>/dev/null ;;
        deactivate)
            PATH="${PATH#/opt/venv/bin:}"
            export PATH
            unset CONDA_PREFIX CONDA_DEFAULT_ENV ;;
        *)
            echo "conda: this box has only 'conda activate' and 'conda deactivate'" >&2
            return 1 ;;
    esac
}
"""
_FILES = ("opt/miniconda3/bin/activate", "opt/miniconda3/etc/profile.d/conda.sh")


def layer(root: Path, build_once: BuildOnce = store.build_once) -> Path:
    """Return the layer, written into the cache when it is not there."""
    folder = root / "conda" / _VERSION

    def build(place: Path) -> dict[str, Any]:
        for name in _FILES:
            path = place / "layer" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_ACTIVATE)
        return {"digest": store.digest_tree(place / "layer")}

    build_once(folder, build)
    return folder / "layer"

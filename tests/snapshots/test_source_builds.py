"""SourceBuilds: a package without a wheel runs its own program in a box and never on the host."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.environment.interpreter import find_interpreter
from swebench_lab.snapshots.environment.uv_runs import without_wheels
from swebench_lab.snapshots.environment.venv import build_venv, resolve
from tests.snapshots.test_index_relay import wheel

BACKEND = """
import os, pathlib, zipfile
{effect}

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "sourced-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as file:
        file.writestr("sourced.py", "BUILT_BY = %r\\n" % os.uname().nodename)
        file.writestr("sourced-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: sourced\\nVersion: 1.0\\nRequires-Dist: tiny\\n")
        file.writestr("sourced-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr("sourced-1.0.dist-info/RECORD", "")
    return name
"""


def sdist(effect: str) -> bytes:
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(effect=effect),
        "PKG-INFO": "Metadata-Version: 2.1\nName: sourced\nVersion: 1.0\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"sourced-1.0/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An index with `tiny` as a wheel and `sourced` as source only, whose build tries to leave a mark on the host."""
    root = tmp_path / "index"
    mark = tmp_path / "ran-on-the-host"
    effect = f"try:\n    pathlib.Path({str(mark)!r}).write_text('here')\nexcept OSError:\n    pass"
    for project, name, content in (
        ("tiny", "tiny-1.0-py3-none-any.whl", wheel("1.0")),
        ("sourced", "sourced-1.0.tar.gz", sdist(effect)),
    ):
        folder = root / "simple" / project
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        (folder / "index.html").write_text(f'<a href="{name}">{name}</a>')
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
        yield mark
        server.shutdown()


def test_a_package_without_a_wheel_is_built_in_a_box(tmp_path: Path, index: Path) -> None:
    interpreter = find_interpreter()
    pins = resolve(["sourced"], interpreter, "", tmp_path / "cache")
    assert pins.lines == ("sourced==1.0", "tiny==1.0"), "what it needs is known from its build alone"
    facts = build_venv(tmp_path / "layer", interpreter, pins, ["."])
    site = tmp_path / "layer" / str(facts["site_packages"]).lstrip("/")
    assert (site / "tiny.py").is_file()
    assert (site / "sourced.py").read_text() == "BUILT_BY = 'lab'\n"
    assert os.uname().nodename != "lab"
    assert "sourced built from source in a box" in facts["packages_from"]
    assert not index.exists(), "nothing of it ran on the host"


def test_a_build_that_fails_says_what_it_said(tmp_path: Path, index: Path) -> None:
    archive = tmp_path / "index" / "simple" / "sourced" / "sourced-1.0.tar.gz"
    archive.write_bytes(sdist("raise RuntimeError('not on this day')"))
    with pytest.raises(SnapshotError, match=r"in a box: .*not on this day"):
        resolve(["sourced"], find_interpreter(), "", tmp_path / "cache")


def test_what_uv_says_of_missing_wheels_is_understood() -> None:
    hint = "hint: Wheels are required for `doc-opt` because building from source is disabled for all packages"
    assert without_wheels(hint) == ["doc-opt"]
    assert without_wheels("Because docopt==0.6.2 has no usable wheels and you require docopt==0.6.2") == ["docopt"]
    assert without_wheels("No solution found: because a==1 depends on b>2") == []

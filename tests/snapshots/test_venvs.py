"""Venvs: the pinned packages and no others, at their place in the box, and without the network where possible."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.environment.interpreter import find_interpreter, interpreters
from swebench_lab.snapshots.environment.uv_runs import too_late
from swebench_lab.snapshots.environment.venv import Pins, build_venv, resolve


def wheel(folder: Path, name: str = "tiny-thing", requires: str = "", version: str = "1.0") -> Path:
    """Write a wheel with a module and a script."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    files = {
        f"{plain}.py": "def main():\n    print('tiny')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\ntiny = {plain}:main\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    target = folder / f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return target


def test_pytest_comes_from_the_running_environment_without_the_network(tmp_path: Path) -> None:
    interpreter = find_interpreter()
    pins = resolve(["pytest"], interpreter, "", tmp_path)
    assert pins.origin == "installed"
    assert f"pytest=={importlib.metadata.version('pytest')}" in pins.lines
    assert {line.partition("==")[0] for line in pins.lines} >= {"pytest", "pluggy", "iniconfig", "packaging"}
    facts = build_venv(tmp_path / "layer", interpreter, pins, (".", "src"))
    assert facts["packages_from"] == "installed"
    site = tmp_path / "layer" / facts["site_packages"].lstrip("/")
    found = {p.name.partition("-")[0].lower() for p in site.glob("*.dist-info")}
    assert found == {line.partition("==")[0] for line in pins.lines}
    assert (site / "testbed.pth").read_text() == "/testbed\n/testbed/src\n"
    python = tmp_path / "layer" / "opt" / "venv" / "bin" / "python"
    said = subprocess.run([python, "-c", "import pytest, sys; print(pytest.__file__, sys.prefix)"], capture_output=True,
                          text=True, check=True, cwd="/")  # fmt: skip
    assert said.stdout.split() == [str(site / "pytest" / "__init__.py"), str(python.parent.parent)]


def test_scripts_start_with_the_interpreter_of_the_box_and_name_no_folder_of_the_host(tmp_path: Path) -> None:
    pins = resolve(["pytest"], find_interpreter(), "", tmp_path)
    build_venv(tmp_path / "layer", find_interpreter(), pins, ())
    venv = tmp_path / "layer" / "opt" / "venv"
    assert (venv / "bin" / "pytest").read_text().startswith("#!/opt/venv/bin/python\n")
    assert (venv / "bin" / "pytest").stat().st_mode & 0o111
    for path in [*(venv / "bin").iterdir(), venv / "pyvenv.cfg"]:
        if not path.is_symlink():
            assert str(tmp_path).encode() not in path.read_bytes()
            assert sys.prefix.encode() not in path.read_bytes() or sys.prefix == sys.base_prefix


def test_every_module_is_compiled_under_its_place_in_the_box(tmp_path: Path) -> None:
    pins = resolve(["pytest"], find_interpreter(), "", tmp_path)
    build_venv(tmp_path / "layer", find_interpreter(), pins, ())
    library = tmp_path / "layer" / "opt" / "venv" / "lib"
    compiled = list(library.rglob("*.pyc"))
    assert len(compiled) >= 0.95 * len(list(library.rglob("*.py")))
    assert all(str(tmp_path).encode() not in path.read_bytes() for path in compiled)


COPY_TWICE = """
import sys
from pathlib import Path
sys.path += sys.argv[2:]
from swebench_lab.snapshots.environment.interpreter import find_interpreter
from swebench_lab.snapshots.environment.uv_runs import too_late
from swebench_lab.snapshots.environment.venv import Pins, _copy_distributions
import tiny_thing

for change in (False, True):
    if change:
        Path(tiny_thing.__file__).write_text("changed")
    venv = Path(sys.argv[1], str(change))
    site = venv / "lib" / f"python{find_interpreter().minor}" / "site-packages"
    site.mkdir(parents=True)
    copied = _copy_distributions(Pins(("tiny-thing==1.0",), "installed"), find_interpreter(), venv, site)
    print(copied, len(list(site.iterdir())))
"""


def test_a_package_changed_in_place_is_not_taken_for_the_pinned_one(tmp_path: Path) -> None:
    """In a venv of its own, so that the one that runs the tests is left alone."""
    pins = Pins((f"tiny-thing @ {wheel(tmp_path).as_uri()}",), "uv")
    build_venv(tmp_path / "layer", find_interpreter(), pins, ())
    venv = tmp_path / "layer" / "opt" / "venv"
    (record,) = venv.rglob("tiny_thing-1.0.dist-info/RECORD")
    lines = [line for line in record.read_text().splitlines() if "direct_url" not in line and "bin/" not in line]
    record.write_text("\n".join(lines) + "\n")  # as if it came from an index
    command = [venv / "bin" / "python", "-c", COPY_TWICE, tmp_path / "new", Path.cwd(), *filter(None, sys.path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.stdout.splitlines() == ["True 2", "False 0"], said.stderr


def test_uv_installs_what_the_running_environment_does_not_hold(tmp_path: Path) -> None:
    target = wheel(tmp_path)
    pins = resolve([f"tiny-thing @ {target.as_uri()}"], find_interpreter(), "", tmp_path)
    assert pins.origin == "uv"
    facts = build_venv(tmp_path / "layer", find_interpreter(), pins, ())
    assert facts["packages_from"] == "uv's cache"
    script = tmp_path / "layer" / "opt" / "venv" / "bin" / "tiny"
    assert script.read_text().startswith("#!/opt/venv/bin/python\n")
    assert str(tmp_path) not in script.read_text()


def test_versions_come_from_the_index_and_not_from_what_the_cache_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "index" / "tiny-thing"
    place.mkdir(parents=True)
    for version in ("1.0", "2.0"):
        wheel(place, version=version)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path / "index"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    python = find_interpreter()
    try:
        assert resolve(["tiny-thing<2"], python, "", tmp_path).lines == ("tiny-thing==1.0",)
        assert resolve(["tiny-thing"], python, "", tmp_path).lines == ("tiny-thing==2.0",)
    finally:
        server.shutdown()
        server.server_close()
    alone = resolve(["tiny-thing>0"], python, "", tmp_path)
    assert alone.lines == ("tiny-thing==2.0",)
    assert alone.origin == "uv, among the releases in its cache, as no index answered"
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(SnapshotError, match="never-seen"):
        resolve(["never-seen"], python, "", tmp_path)


def test_a_resolution_is_kept(tmp_path: Path) -> None:
    target = wheel(tmp_path)
    wanted = [f"tiny-thing @ {target.as_uri()}"]
    first = resolve(wanted, find_interpreter(), "", tmp_path / "cache")
    target.unlink()
    assert resolve(wanted, find_interpreter(), "", tmp_path / "cache") == first


def test_requirements_that_cannot_be_met_are_an_error_that_names_them(tmp_path: Path) -> None:
    target = wheel(tmp_path, requires="Requires-Python: >=99\n")
    with pytest.raises(SnapshotError, match=r"resolving tiny-thing @ .*Python \d"):
        resolve([f"tiny-thing @ {target.as_uri()}"], find_interpreter(), "", tmp_path)


@pytest.mark.parametrize("path", ["..", "/etc", "a/../../b", "a\nimport os"])
def test_a_path_outside_the_repository_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(SnapshotError, match="not a folder inside the repository"):
        build_venv(tmp_path / "layer", find_interpreter(), Pins((), "uv"), (path,))


def test_the_running_interpreter_is_found_by_every_way_to_name_it() -> None:
    running = find_interpreter()
    assert running.is_running
    assert find_interpreter(running.version) == running == find_interpreter(running.minor)
    assert Path(sys.base_prefix).resolve() == running.prefix
    assert running.binds == (() if running.prefix.is_relative_to("/usr") else (running.prefix,))
    assert running in interpreters()


def test_another_version_is_never_taken_silently() -> None:
    with pytest.raises(
        SnapshotError, match=r"Python 3\.2: not on this machine, which has .*running.*uv python install 3\.2"
    ):
        find_interpreter("3.2")
    with pytest.raises(SnapshotError, match="expected a version such as"):
        find_interpreter("latest")


def fake_python(folder: Path, version: str) -> Path:
    """Write a program that says it is a CPython of a version, as the search asks every candidate."""
    program = folder / "bin" / f"python{version.rpartition('.')[0]}"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho \'["{version}", "CPython", "{folder}", true]\'\n')
    program.chmod(0o755)
    (folder / "bin" / "python3").symlink_to(program)
    return folder


def test_every_kind_of_installation_is_found_and_the_nearest_only_when_allowed(tmp_path: Path) -> None:
    fake_python(tmp_path / "conda" / "9.4" / "miniconda3", "9.4.2")
    fake_python(tmp_path / "pyenv" / "versions" / "9.7.1", "9.7.1")
    fake_python(tmp_path / "uv" / "cpython-9.9.3-linux", "9.9.3")
    own = fake_python(tmp_path / "own", "9.2.0")
    (tmp_path / "shims").mkdir()
    (tmp_path / "shims" / "python9.2").symlink_to(own / "bin" / "python9.2")
    asked = """
from swebench_lab.snapshots.environment.interpreter import find_interpreter, other_than
for version in ("9.4", "9.7", "9.9"):
    print(version, find_interpreter(version).origin)
print(find_interpreter("9.2").origin, find_interpreter("9.2").path)
print(find_interpreter("9.6", nearest=True).version, find_interpreter("9.8", nearest=True).version)
print(other_than("9.6", "9.7.1"))
try:
    find_interpreter("9.6")
except Exception as error:
    print(error)
"""
    places = {"SWEBENCH_LAB_CONDA_ROOT": tmp_path / "conda", "PYENV_ROOT": tmp_path / "pyenv",
              "UV_PYTHON_INSTALL_DIR": tmp_path / "uv", "PATH": f"{tmp_path}/shims:{os.environ['PATH']}"}  # fmt: skip
    env = {**os.environ, **{name: str(place) for name, place in places.items()}}
    said = subprocess.run([sys.executable, "-c", asked], env=env, capture_output=True, text=True, check=True).stdout
    lines = said.splitlines()
    assert lines[:3] == ["9.4 conda", "9.7 pyenv", "9.9 uv"]
    assert lines[3] == f"path {own}/bin/python9.2", "the program itself, not what leads to it"
    assert lines[4] == "9.7.1 9.9.3", "the nearest, the newer of two"
    assert lines[5].startswith("Python 9.6 was wanted and is not here; the nearest, 9.7.1, was taken")
    assert lines[6].startswith("looking for Python 9.6: not on this machine, which has ")


def test_pins_win_over_what_others_ask_and_over_the_date(tmp_path: Path) -> None:
    try:
        pins = resolve(["iniconfig<2"], find_interpreter(), "2022-01-01", tmp_path, ["iniconfig==2.0.0"])
    except SnapshotError as error:
        pytest.skip(f"resolving needs a package index: {str(error)[:80]}")
    assert pins.lines == ("iniconfig==2.0.0",)


def test_what_was_published_anew_later_does_not_keep_its_users_out(tmp_path: Path) -> None:
    try:
        pins = resolve(["pytest"], find_interpreter(), "2019-08-01", tmp_path)
    except SnapshotError as error:
        pytest.skip(f"resolving needs a package index: {str(error)[:80]}")
    assert "pytest==5.0.1" in pins.lines, "the newest of that day, though atomicwrites is of 2022"


def test_what_only_a_newer_release_can_satisfy_is_read_from_the_installer_s_hint() -> None:
    said = (
        "resolving dask, distributed for Python 3.10.13: × No solution found when resolving dependencies: ╰─▶ Because "
        "only locket<=0.2.1 is available and distributed==2022.8.1 depends on locket>=1.0.0, your requirements are "
        "unsatisfiable. hint: `locket` was filtered by `exclude-newer` to only include packages uploaded before "
        "2022-04-03T00:00:00Z. The latest version satisfying the requirement is v1.0.0, published at "
        "2022-04-20T22:04:42.23Z. Consider using `exclude-newer-package` to override the cutoff for this package."
    )
    assert too_late(said) == {"locket": "2022-04-20T22:04:43Z"}
    assert too_late("No solution found: because a==1 depends on b>2 and b<2, nothing fits") == {}

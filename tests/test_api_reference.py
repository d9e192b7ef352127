"""The API reference: written from the docstrings by pdoc, with every public name in it, each of them explained."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import swebench_lab as lab

pytest.importorskip("pdoc", reason="the reference is written by pdoc, which is in the extra 'dev'")
MAKEFILE = Path(__file__).parents[1] / "Makefile"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as `make docs` writes it."""
    folder = tmp_path_factory.mktemp("api")
    line = re.search(r"-m (pdoc .*)", MAKEFILE.read_text("utf-8"))
    assert line
    words = shlex.split(line[1].replace("docs/api", str(folder)).replace("$$", "$"))
    subprocess.run([sys.executable, "-W", "ignore", "-m", *words], check=True, capture_output=True, timeout=300)
    return folder


def test_every_public_name_is_in_the_reference_and_explained(reference: Path) -> None:
    parts = re.split(r'<section id="([^"]+)"', (reference / "swebench_lab.html").read_text("utf-8"))
    told = dict(zip(parts[1::2], parts[2::2], strict=True))
    names = [name for name in lab.__all__ if not name.startswith("__")]
    assert len(names) > 60
    for name in names:
        value = getattr(lab, name)
        page = reference / f"{value.__name__.replace('.', '/')}.html" if isinstance(value, ModuleType) else None
        text = page.read_text("utf-8") if page else told.get(name, "")
        assert 'class="docstring"' in text, f"{name} is not in the reference, or nothing is said of it"
    assert "<strong>backend:" in told["SandboxFactory"], "arguments are told one by one"

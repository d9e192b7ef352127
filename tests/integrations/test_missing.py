"""Without a neighbour's package its file says what to install, and the entry points lead to files that exist."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.integrations.venvs import NEIGHBOURS

ROOT = Path(__file__).parents[2]
FILES = {
    "mini_swe_agent": ("minisweagent", "mini-swe-agent"),
    "inspect_sandbox": ("inspect_ai", "inspect"),
    "inspect_tasks": ("inspect_ai", "inspect"),
    "harbor_environment": ("harbor", "harbor"),
    "harbor_agent": ("harbor", "harbor"),
    "nemo_gym": ("nemo_gym", "nemo-gym"),
    "verifiers": ("verifiers", "verifiers"),
    "openenv": ("openenv", "openenv"),
    "trl": ("datasets", "train"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_whose_neighbour_is_missing_says_which_extra_to_install(name: str) -> None:
    package, extra = FILES[name]
    code = f"import sys; sys.modules[{package!r}] = None; import swebench_lab.integrations.{name}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode != 0 and f"pip install 'swebench-lab[{extra}]'" in ran.stderr


def test_every_extra_pins_its_neighbour_and_has_tests_and_entry_points_lead_somewhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in {extra for _, extra in FILES.values()} - {"train"}:
        assert all("<" in requirement for requirement in project["optional-dependencies"][extra])
    tested = {extra for name, one in NEIGHBOURS.items() for extra in (one.extras or name).split(",")}
    assert tested >= {extra for _, extra in FILES.values()}
    assert all((ROOT / "tests" / test).is_file() for one in NEIGHBOURS.values() for test in one.tests)
    for group in ("inspect_ai", "nemo_gym.sandbox_providers"):
        for value in project["entry-points"][group].values():
            assert find_spec("swebench_lab.integrations") and value.partition(":")[0].rpartition(".")[2] in FILES

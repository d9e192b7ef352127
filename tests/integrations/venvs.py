"""`make integrations`: each neighbour's own package in a venv of its own, and the tests of the file that it uses.

Usage: venvs.py FOLDER PYTHON3.12 [NEIGHBOUR ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Neighbour:
    """A tool that can use this package.

    Args:
        package: What is installed for it, whose version is said.
        tests: The tests that need it.
        extras: Extras of this package; empty: the one of its name.
        beside: What else its tests use.
        python: Its Python; empty: the one that is given, 3.12 for those that need it.
        slow: Whether its slow tests run as well.
    """

    package: str
    tests: tuple[str, ...]
    extras: str = ""
    beside: tuple[str, ...] = ()
    python: str = ""
    slow: bool = False


NEIGHBOURS = {
    "mini-swe-agent": Neighbour("mini-swe-agent", ("integrations/test_mini_swe_agent.py",)),
    "inspect": Neighbour("inspect-ai", ("integrations/test_inspect.py",)),
    "harbor": Neighbour("harbor", ("integrations/test_harbor.py",)),
    "nemo-gym": Neighbour("nemo-gym", ("integrations/test_nemo_gym.py",)),
    "verifiers": Neighbour("verifiers", ("integrations/test_verifiers.py",)),
    "openenv": Neighbour(
        "openenv", ("integrations/test_openenv.py", "integrations/test_trl.py"), "openenv,train",
        python=sys.executable, slow=True,
    ),
    "litellm": Neighbour(
        "litellm", ("policies/test_litellm.py", "policies/test_sdks.py", "agents/external/test_gateway.py"),
        beside=("anthropic==2.14.*", "openai==3.57.*"),
    ),
}  # fmt: skip


def run(name: str, folder: Path, python: str) -> bool:
    """Install a neighbour and run its tests; return whether they passed."""
    one, venv = NEIGHBOURS[name], folder / name
    uv, interpreter = [sys.executable, "-m", "uv"], str(venv / "bin/python")
    if not Path(interpreter).exists():
        subprocess.run([*uv, "venv", "--quiet", "--python", one.python or python, str(venv)], check=True)
    packages = ["--editable", f"{ROOT}[{one.extras or name},chat]", "pytest", *one.beside]
    links = [f"--find-links={link}" for link in os.environ.get("PIP_FIND_LINKS", "").split()]
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", interpreter, *links, *packages], check=True)
    version = subprocess.check_output(
        [interpreter, "-c", f"import importlib.metadata as m; print(m.version('{one.package}'))"], text=True
    )
    print(f"== {one.package} {version.strip()}", flush=True)
    tests = [f"tests/{test}" for test in one.tests]
    marked = ["-m", "slow or not slow"] if one.slow else []
    return not subprocess.run(
        [interpreter, "-m", "pytest", "-q", "-p", "no:warnings", *marked, *tests], cwd=ROOT
    ).returncode


def main(folder: Path, python: str, names: list[str]) -> int:
    """Return how many of the neighbours failed."""
    failed = [name for name in names or NEIGHBOURS if not run(name, folder, python)]
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3:]))

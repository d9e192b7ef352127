"""`make integrations`: each neighbour's own package in a venv of its own, and the tests of the file that it uses.

Usage: venvs.py FOLDER PYTHON3.12 [EXTRA ...]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = {
    "mini-swe-agent": "test_mini_swe_agent.py",
    "inspect": "test_inspect.py",
    "harbor": "test_harbor.py",
    "nemo-gym": "test_nemo_gym.py",
}
"""Extra → the tests that need it."""


def main(folder: Path, python: str, extras: list[str]) -> int:
    """Return how many of the extras failed."""
    uv = [sys.executable, "-m", "uv"]
    failed = []
    for extra in extras or list(TESTS):
        venv = folder / extra
        if not (venv / "bin/python").exists():
            subprocess.run([*uv, "venv", "--quiet", "--python", python, str(venv)], check=True)
        interpreter = str(venv / "bin/python")
        packages = ["--editable", f"{ROOT}[{extra},chat]", "pytest"]
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", interpreter, *packages], check=True)
        print(f"== {extra}", flush=True)
        tests = f"tests/integrations/{TESTS[extra]}"
        if subprocess.run([interpreter, "-m", "pytest", "-q", "-p", "no:warnings", tests], cwd=ROOT).returncode:
            failed.append(extra)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3:]))

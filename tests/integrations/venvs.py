"""`make integrations`: each neighbour's own package in a venv of its own, and the tests of the file that it uses.

Usage: venvs.py FOLDER PYTHON3.12 [EXTRA ...]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = {
    "mini-swe-agent": ["integrations/test_mini_swe_agent.py"],
    "inspect": ["integrations/test_inspect.py"],
    "harbor": ["integrations/test_harbor.py"],
    "nemo-gym": ["integrations/test_nemo_gym.py"],
    "verifiers": ["integrations/test_verifiers.py"],
    "openenv": ["integrations/test_openenv.py"],
    "litellm": ["policies/test_litellm.py", "policies/test_sdks.py", "agents/external/test_gateway.py"],
}
"""Extra → the tests that need it."""
BESIDES = {"litellm": ["anthropic", "openai"]}
"""Extra → what else its tests use."""


def main(folder: Path, python: str, extras: list[str]) -> int:
    """Return how many of the extras failed."""
    uv = [sys.executable, "-m", "uv"]
    failed = []
    for extra in extras or list(TESTS):
        venv = folder / extra
        if not (venv / "bin/python").exists():
            subprocess.run([*uv, "venv", "--quiet", "--python", python, str(venv)], check=True)
        interpreter = str(venv / "bin/python")
        packages = ["--editable", f"{ROOT}[{extra},chat]", "pytest", *BESIDES.get(extra, [])]
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", interpreter, *packages], check=True)
        print(f"== {extra}", flush=True)
        tests = [f"tests/{name}" for name in TESTS[extra]]
        if subprocess.run([interpreter, "-m", "pytest", "-q", "-p", "no:warnings", *tests], cwd=ROOT).returncode:
            failed.append(extra)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3:]))

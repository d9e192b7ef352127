"""Harbor task folders of our own making, in the published form."""

from __future__ import annotations

from pathlib import Path

from tests.grading.script_tasks import REWARD

TOML = """\
schema_version = "1.4"
[task]
name = "acme/add"
[metadata]
difficulty = "easy"
tags = ["shell"]
[agent]
timeout_sec = 900.0
[verifier]
timeout_sec = 30.0
[environment]
docker_image = "acme/shell:1"
workdir = "/app"
network_mode = "no-network"
"""


def harbor_task(
    folder: Path, toml: str = TOML, test: str = REWARD, solve: str = "sed -i s/-/+/ add.sh\n", name: str = "add"
) -> Path:
    """Write one task folder; returns it."""
    files = {
        "task.toml": toml,
        "instruction.md": "add.sh subtracts. Make it add.\n",
        "tests/test.sh": "#!/bin/bash\n" + test,
    }
    files |= {"solution/solve.sh": "#!/bin/bash\n" + solve} if solve else {}
    for path, text in files.items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder / name

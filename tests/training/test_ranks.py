"""Two processes that train together: no hang, every sample beside its own prompt, the same weights on both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import ground


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sync", "async"])
def test_two_ranks_end_with_equal_weights_and_own_prompts(engine: str, tmp_path: Path) -> None:
    model = ground.tiny(str(tmp_path / "tiny"))
    script = Path(__file__).with_name("two_ranks.py")
    root = script.parent.parent.parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    ran = subprocess.run(
        [*command, engine, str(model), str(tmp_path / "run")],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, "\n".join(
        line for line in ran.stderr.split("\n") if "[rank" in line
    )  # not the launcher's
    first, second = ((tmp_path / "run" / f"rank-{n}.txt").read_text().split() for n in (0, 1))
    assert first[0] == second[0]  # weights, to the bit
    assert first[1] == "2"
    assert float(first[2]) < 1e-4  # a sample beside another's prompt would be far off

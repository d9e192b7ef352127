"""Workers that batches share: they end when the last batch leaves, and whoever watches sees that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.rollouts import workers
from swebench_lab.rollouts.run_directory import RunDirectory


class Idle:
    """An executor without work."""

    def status(self) -> dict[str, Any]:
        return {"stages": {}}

    def stop(self) -> None:
        pass


def test_the_last_state_that_is_shown_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_SHOW_SECONDS", 1e-6)
    for number in range(100):
        directory = RunDirectory(tmp_path / str(number))
        workers.Workers(Idle(), directory).stop()  # type: ignore[arg-type]
        assert json.loads((directory.path / "live.json").read_text())["state"] == "over"
        assert not list(directory.path.glob(".live.*"))

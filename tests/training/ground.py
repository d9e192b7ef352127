"""What the tests of training share: a tiny random model, a few micro tasks, and sandboxes on this machine."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.records.task import Tasks
from swebench_lab.tasks.micro import build

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'swebench-lab[train]'")
pytest.importorskip("trl", reason="training needs trl: pip install 'swebench-lab[train]'")
torch.set_num_threads(1)


@lru_cache(maxsize=1)
def micro(count: int = 6) -> Tasks:
    return build.load("train", train=count)


@lru_cache(maxsize=1)
def tiny(folder: str) -> Path:
    from swebench_lab.training.data.demonstrations import texts_for_tokenizer
    from swebench_lab.training.model.tiny import make_tiny_model

    return make_tiny_model(folder, texts_for_tokenizer(40), hidden=32, layers=2, heads=2, length=16384)


def policy(folder: str | Path, **settings: Any) -> Any:
    from swebench_lab.policies.local import LocalPolicy

    return LocalPolicy(tiny(str(folder)), **{"max_tokens": 8, **settings})


def agent(answering: Any, **settings: Any) -> lab.Agent:
    given = {"max_steps": 3, "max_format_errors": 9, "command_timeout": 10.0, "keep_layers": False}
    return lab.Agent(answering, **{"flavour": "micro", **given, **settings})

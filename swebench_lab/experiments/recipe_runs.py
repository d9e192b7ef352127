"""Recipe runs: a recipe's notebook, run headless in a kernel of its own and resumable on its run directory."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import swebench_lab
from swebench_lab import _html
from swebench_lab._unix import lock
from swebench_lab.errors import RecipeError, RecipeFailed
from swebench_lab.experiments.recipes import Recipe, describe
from swebench_lab.rollouts.manifest import manifest

if TYPE_CHECKING:
    import polars as pl

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecipeRun:
    """A recipe that has run.

    Args:
        recipe: Its name.
        run_dir: Folder with all results.
        notebook: The notebook with its outputs.
        parameters: The values it ran with.
        seconds: Wall time.
    """

    recipe: str
    run_dir: Path
    notebook: Path
    parameters: Mapping[str, Any] = field(hash=False)
    seconds: float

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What the notebook wrote to `metrics.json`; empty when it wrote none."""
        path = self.run_dir / "metrics.json"
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}

    @cached_property
    def frame(self) -> pl.DataFrame | None:
        """What the notebook wrote to `frame.parquet`; None when it wrote none."""
        import polars as pl

        path = self.run_dir / "frame.parquet"
        return pl.read_parquet(path) if path.is_file() else None

    def __repr__(self) -> str:
        """Return one line: which recipe, how long, and where its notebook is."""
        return f"RecipeRun({self.recipe!r}, {self.seconds:.1f} s, {str(self.notebook)!r})"

    def _repr_html_(self) -> str:
        plain = {name: value for name, value in self.metrics.items() if not isinstance(value, (dict, list))}
        return _html.card(repr(self), _html.facts(plain))


def run_recipe(
    name: str | Path,
    /,
    preset: str | None = None,
    run_dir: str | Path | None = None,
    progress: bool = True,
    **parameters: Any,
) -> RecipeRun:
    """Run a recipe's notebook from top to bottom in its own kernel, with this interpreter.

    Names and types are checked before anything starts. The kernel works in the current folder, so relative paths in
    parameters are relative to it; results go to `run_dir`. Running again on the same `run_dir` resumes: finished attempts
    are not repeated.

    Args:
        name: A recipe's name, or the path of a notebook of your own.
        preset: Name of a set of parameters; `parameters` override it.
        run_dir: Folder for all results; a new one under `runs/<name>/` when None.
        progress: Whether to show a progress bar over the cells.
        **parameters: The recipe's own parameters.

    Returns:
        Paths, metrics and the frame.

    Raises:
        RecipeError: The recipe, the preset or a parameter is unknown, a value is of the wrong type, or another run is
            using `run_dir`.
        RecipeFailed: A cell raised, or the kernel died. The notebook is kept with its error.
    """
    recipe = describe(name)
    values = recipe.values(preset, parameters)
    check_needs(recipe)
    folder = (Path(run_dir).expanduser() if run_dir is not None else new_run_dir(recipe.name)).absolute()
    if "run_dir" in values:
        values["run_dir"] = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    _log.info("running recipe %s in %s", recipe.name, folder)
    what = {"recipe": recipe.name, "notebook": str(recipe.path), "preset": preset, "parameters": values}
    with _alone(folder), manifest(folder / "manifest.json", what):
        _execute(recipe, values, folder / f"{recipe.name}.ipynb", progress)
    _log.info("recipe %s finished after %.1f s", recipe.name, time.monotonic() - start)
    return RecipeRun(recipe.name, folder, folder / f"{recipe.name}.ipynb", values, time.monotonic() - start)


_ENDING = 3.0  # seconds


def new_run_dir(name: str) -> Path:
    """Return where a run of a recipe goes when nobody says where: a folder of this second."""
    return Path("runs") / name / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


def check_needs(recipe: Recipe) -> None:
    """Refuse to start what would end at an import.

    Raises:
        RecipeError: Packages are missing: names them, and what to install.
    """
    needs = {"papermill": "notebook", "ipykernel": "notebook", **dict.fromkeys(recipe.modules, recipe.extra)}
    if missing := {module: extra for module, extra in needs.items() if find_spec(module) is None}:
        extras = ",".join(dict.fromkeys(missing.values()))
        raise RecipeError(
            f"running the recipe {recipe.name!r} needs {', '.join(missing)}: pip install 'swebench-lab[{extras}]'"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the run directory's lock, so that two runs never share it; a killed run may take a moment to release it."""
    patience = time.monotonic() + _ENDING
    with (folder / ".lock").open("w") as file:
        while True:
            try:
                lock(file, wait=False)
                break
            except OSError as error:
                if time.monotonic() > patience:
                    message = f"another run is using {folder}; wait for it, or choose another run_dir"
                    raise RecipeError(message) from error
                time.sleep(0.1)
        yield


def _execute(recipe: Recipe, values: Mapping[str, Any], output: Path, progress: bool) -> None:
    """Run the notebook; an error names the cell, the line and the stored notebook."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    with tempfile.TemporaryDirectory(prefix="lab-kernel-") as runtime:
        log = Path(runtime) / "kernel.log"
        try:
            papermill.execute_notebook(
                # papermill formats both paths with the parameters: a brace in a path must survive that.
                str(recipe.path).replace("{", "{{").replace("}", "}}"),
                str(output).replace("{", "{{").replace("}", "}}"),
                dict(values),
                kernel_name="python3",
                language="python",
                progress_bar={"desc": recipe.name, "unit": "cell"} if progress else False,
                store_widget_state=False,
                kernel_manager_class=_kernel_manager(Path(runtime), log),
                request_save_on_cell_execute=True,
            )
        except PapermillExecutionError as error:
            raise RecipeFailed(_failure(recipe, output, error)) from None
        except (DeadKernelError, RuntimeError) as error:
            output_of_kernel = log.read_text("utf-8", "replace").strip()[-2000:] if log.is_file() else ""
            raise RecipeFailed(
                f"recipe {recipe.name!r}: its kernel died or did not start ({error}). {output_of_kernel}\n"
                f"The notebook up to that point is {output}. A frequent cause is too little memory (see `swebench-lab "
                "doctor`); running again resumes."
            ) from error
        finally:
            _drop_widgets(output)


def _drop_widgets(path: Path) -> None:
    """Remove widgets from a notebook's outputs: progress bars would stay at zero for ever, and a player has a static page."""
    if not path.is_file():
        return
    notebook = json.loads(path.read_text("utf-8"))
    for cell in notebook["cells"]:
        outputs = []
        for output in cell.get("outputs", ()):
            widget = output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            if widget is None or "text/html" in output["data"]:
                outputs.append(output)
        if "outputs" in cell:
            cell["outputs"] = outputs
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _failure(recipe: Recipe, output: Path, error: Any) -> str:
    """Return which cell failed, at which line, and what to do next."""
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    lines = error.source.split("\n")
    places = [int(n) for n in re.findall(rf"Cell In\[{error.exec_count}\], line (\d+)", trace)]
    number = places[0] if places and places[0] <= len(lines) else 0
    at = f", line {number}: `{lines[number - 1].strip()}`" if number else f": `{lines[0].strip()}`"
    return (
        f"recipe {recipe.name!r} failed in cell {error.cell_index}, In [{error.exec_count}]{at}\n"
        f"{error.ename}: {error.evalue}\n"
        f"The notebook with all output is {output}; fix the cause and run it again with the run directory "
        f"{output.parent} to resume."
    )


def _kernel_manager(runtime: Path, log: Path) -> type[Any]:
    """Return the class of kernels that run this very interpreter, over sockets in a private folder.

    A named kernelspec may belong to another interpreter, and TCP ports are open to every user of the machine.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = KernelSpec(argv=command, display_name="Python", language="python", env=_kernel_environment())

    class OwnKernel(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.transport = "ipc"
            self.connection_file = str(runtime / "kernel.json")

        async def start_kernel(self, **options: Any) -> Any:  # type: ignore[override]
            with log.open("ab") as file:
                return await super().start_kernel(stdout=file, stderr=file, **options)

    return OwnKernel


def _kernel_environment() -> dict[str, str]:
    """Return variables that make the kernel import the package that started it."""
    package = str(Path(swebench_lab.__file__).parent.parent)
    variables = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    if package not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        before = os.environ.get("PYTHONPATH", "")
        variables["PYTHONPATH"] = package + (os.pathsep + before if before else "")
    return variables

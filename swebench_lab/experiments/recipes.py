"""Recipes: parameterised notebooks that travel in the package, run headless and resumable on a run directory."""

from __future__ import annotations

import ast
import difflib
import io
import json
import logging
import os
import re
import sys
import sysconfig
import tempfile
import time
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import swebench_lab
from swebench_lab import _html
from swebench_lab._unix import lock
from swebench_lab.errors import RecipeError, RecipeFailed
from swebench_lab.rollouts.manifest import manifest

if TYPE_CHECKING:
    import polars as pl

_log = logging.getLogger(__name__)

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "None": (type(None),),
}


_RESERVED = ("preset", "progress")
"""Arguments of `run_recipe` itself, which no recipe may use as parameters."""


# --- what a recipe is -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a recipe.

    Args:
        name: Its name in the notebook.
        type: Its annotation: `str`, `int`, `float`, `bool`, `list`, `dict`, or several joined by `|`.
        default: Its value when none is given.
        help: The comment on its line.
    """

    name: str
    type: str
    default: Any
    help: str = ""

    def accepts(self, value: Any) -> bool:
        """Whether a value is of the parameter's type; a whole number is a float too, but true is not a number."""
        kinds = [_TYPES[kind] for kind in self.type.split(" | ")]
        if isinstance(value, bool):
            return (bool,) in kinds
        return any(isinstance(value, allowed) for allowed in kinds)

    def read(self, text: str) -> Any:
        """Return a text from a command line as a value of this parameter's type.

        Raises:
            RecipeError: The text is not a value of the type.
        """
        for kind in sorted(self.type.split(" | "), key=list(reversed(_TYPES)).index):
            value = _read_as(kind, text)
            if value is not _NO_VALUE:
                return value
        raise RecipeError(f"parameter {self.name!r} takes {self.type}; {text!r} is not one")


_NO_VALUE = object()


def _read_as(kind: str, text: str) -> Any:
    """Return `text` read as one plain type, or _NO_VALUE."""
    words: dict[str, dict[str, Any]] = {"bool": {"true": True, "false": False}, "None": {"none": None, "null": None}}
    if kind == "str":
        return text
    if kind in words:
        return words[kind].get(text.strip().lower(), _NO_VALUE)
    try:
        value = {"int": int, "float": float}.get(kind, json.loads)(text)
    except ValueError:
        return _NO_VALUE
    return value if isinstance(value, _TYPES[kind]) else _NO_VALUE


@dataclass(frozen=True)
class Recipe:
    """A parameterised notebook.

    Args:
        name: Its name.
        path: The notebook.
        title: Its first heading.
        parameters: What its cell tagged `parameters` declares, in order.
        presets: Name → parameters, from the YAML file beside the notebook.
    """

    name: str
    path: Path
    title: str
    parameters: tuple[Parameter, ...]
    presets: Mapping[str, Mapping[str, Any]] = field(hash=False, default_factory=dict)

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values for the notebook.

        Raises:
            RecipeError: A name is not a parameter's, or a value is not of its type.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        checked: dict[str, Any] = {}
        for name, raw in values.items():
            if name not in known:
                raise RecipeError(f"recipe {self.name!r} has no parameter {name!r}; {_hint(name, known)}")
            value = os.fspath(raw) if isinstance(raw, os.PathLike) else raw
            value = list(value) if isinstance(value, tuple) else value
            if not known[name].accepts(value):
                raise RecipeError(
                    f"recipe {self.name!r}: parameter {name!r} takes {known[name].type}, "
                    f"not {type(raw).__name__} {raw!r:.60}"
                )
            checked[name] = value
        return checked

    def values(self, preset: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults, changed by a preset, changed by `parameters`: all of them checked.

        Raises:
            RecipeError: The preset is unknown, or a parameter is unknown or of the wrong type.
        """
        if preset is not None and preset not in self.presets:
            raise RecipeError(f"recipe {self.name!r} has no preset {preset!r}; {_hint(preset, self.presets)}")
        chosen = self.check(self.presets[preset]) if preset is not None else {}
        return {parameter.name: parameter.default for parameter in self.parameters} | chosen | self.check(parameters)

    def __repr__(self) -> str:
        """Return the title, then one line a parameter, then the presets."""
        lines = [f"{self.name}: {self.title}"]
        lines += [
            f"  {p.name}: {p.type} = {p.default!r}" + (f"  # {p.help}" if p.help else "") for p in self.parameters
        ]
        lines += [f"  preset {name}: {dict(values)}" for name, values in self.presets.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [[p.name, p.type, repr(p.default), p.help] for p in self.parameters]
        presets = "; ".join(f"{name}: {dict(values)}" for name, values in self.presets.items())
        table = _html.table(["parameter", "type", "default", "meaning"], rows)
        return _html.card(f"{self.name}: {self.title}", table + _html.note(presets and f"presets: {presets}"))


def _hint(name: str, known: Iterable[str]) -> str:
    """Return the closest known name, if any, and all known names."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(names) or 'none'}"


def _folder() -> Path:
    """Return the folder of the recipes: the wheel's, else the checkout's."""
    packaged = Path(str(resources.files("swebench_lab"))) / "_recipes"
    return packaged if packaged.is_dir() else Path(swebench_lab.__file__).parent.parent / "recipes"


def list_recipes() -> list[Recipe]:
    """Return all recipes of the package, by name."""
    return [_read(path.stem, path) for path in sorted(_folder().glob("*.ipynb"))]


def describe(name: str | Path) -> Recipe:
    """Return a recipe: its parameters with type, default and meaning, and its presets.

    Args:
        name: A recipe's name, or the path of a notebook of your own that has a cell tagged `parameters`.

    Raises:
        RecipeError: There is no such recipe, or its parameters cannot be read.
    """
    path = Path(name).expanduser()
    if path.suffix != ".ipynb":
        path = _folder() / f"{name}.ipynb"
        known = sorted(p.stem for p in _folder().glob("*.ipynb"))
        if str(name) not in known:
            raise RecipeError(f"there is no recipe {str(name)!r}; {_hint(str(name), known)}")
    elif not path.is_file():
        raise RecipeError(f"there is no notebook {path}")
    _log.debug("recipe %r is %s", str(name), path)
    return _read(path.stem, path)


def _read(name: str, path: Path) -> Recipe:
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"reading the notebook {path}: it is not a notebook ({error})") from error
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    parameters = _declared("".join(tagged[0]["source"]), path) if tagged else ()
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    heading = re.search(r"^#\s+(.+)$", prose, re.MULTILINE)
    return Recipe(name, path, heading[1].strip() if heading else "", parameters, _presets(path.with_suffix(".yaml")))


def _declared(source: str, path: Path) -> tuple[Parameter, ...]:
    """Return the parameters that a cell's assignments declare; their comments are the help."""
    comments = {
        token.start[0]: token.string.lstrip("#: ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            name, annotation = node.target.id, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, annotation = node.targets[0].id, ""
        else:
            continue
        if name in _RESERVED:
            raise RecipeError(f"{path}: a parameter cannot be called {name!r}, which run_recipe itself takes")
        default = _literal(node.value, name, path)
        kinds = re.sub(r"\[.*\]", "", annotation or ("None" if default is None else type(default).__name__))
        if unknown := [kind for kind in kinds.split(" | ") if kind not in _TYPES]:
            raise RecipeError(f"{path}: parameter {name!r} has the type {unknown[0]!r}; known: {', '.join(_TYPES)}")
        parameters.append(Parameter(name, kinds, default, comments.get(node.end_lineno or node.lineno, "")))
    return tuple(parameters)


def _literal(node: ast.expr | None, name: str, path: Path) -> Any:
    try:
        return ast.literal_eval(node) if node is not None else None
    except ValueError as error:
        raise RecipeError(f"{path}: the default of parameter {name!r} must be a plain value") from error


def _presets(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        import yaml
    except ImportError as error:
        raise RecipeError(f"reading {path} needs the notebook extra: pip install 'swebench-lab[notebook]'") from error
    try:
        loaded = yaml.safe_load(path.read_text("utf-8")) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    presets = {str(name): values or {} for name, values in loaded.items()} if isinstance(loaded, dict) else {"": loaded}
    if wrong := [name for name, values in presets.items() if not isinstance(values, dict)]:
        raise RecipeError(f"{path}: preset {wrong[0]!r} must be a mapping of parameters to values")
    return presets


# --- running one ----------------------------------------------------------------------------------------------------


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
    _need_papermill()
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = Path(run_dir).expanduser() if run_dir is not None else Path("runs") / recipe.name / stamp
    folder = folder.absolute()
    if "run_dir" in values:
        values["run_dir"] = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    _log.info("running recipe %s in %s", recipe.name, folder)
    what = {"recipe": recipe.name, "notebook": str(recipe.path), "preset": preset, "parameters": values}
    with _alone(folder), manifest(folder / "manifest.json", what):
        _execute(recipe, values, folder / f"{recipe.name}.ipynb", progress)
    _log.info("recipe %s finished after %.1f s", recipe.name, time.monotonic() - started)
    return RecipeRun(recipe.name, folder, folder / f"{recipe.name}.ipynb", values, time.monotonic() - started)


_ENDING = 3.0  # seconds


def _need_papermill() -> None:
    try:
        import ipykernel  # noqa: F401
        import papermill  # noqa: F401
    except ImportError as error:
        raise RecipeError(
            f"running a recipe needs {error.name}, which is in the notebook extra: pip install 'swebench-lab[notebook]'"
        ) from error


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
        f"The notebook with all output is {output}; fix the cause and run the same command again to resume."
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

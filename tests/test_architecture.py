"""The package as a whole: layers point downwards, imports cost nothing, public names are what they say."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import swebench_lab as lab
from swebench_lab.records import _late

PACKAGE = Path(lab.__file__).parent
LAYERS = (
    {"errors"},
    {"_compat", "_html", "_unix", "places"},
    {"_files"},
    {"records"},
    {"formats", "sandbox"},
    {"snapshots", "policies"},
    {"agents", "grading"},
    {"rollouts", "tasks"},
    {"traces"},
    {"training", "viewer"},
    {"experiments", "testing", "integrations"},
    {"cli"},
)
"""Rooms from the ground up: what stands in a line may import the lines above it, and nothing beside or below it."""

FLOORS = {
    "records": ({"patches", "tables"}, {""}),
    "sandbox": (
        {"linux"},
        {"layers"},
        {"zygote", "diffs"},
        {"shell"},
        {""},
        {"namespace", "landlock", "docker"},
    ),
    "formats": ({"dialects"}, {""}),
    "agents": ({"tools/in_sandbox"}, {"tools"}, {""}, {"configs", "external"}),
    "grading": ({"rules", "files", "leaks"}, {"execution"}, {"verifiers"}, {""}),
    "training": ({"data"}, {"options"}, {"model"}, {"engines"}, {""}),
    "traces": ({"foreign"}, {""}),
    "snapshots": ({"storage"}, {"environment"}, {"repository"}, {"image"}, {"dockerfile", "transfer"}, {""}),
}
"""Folders of a room from the ground up, as with rooms; "" stands for the files beside the folders."""

HEAVY = ("torch", "ray", "docker", "swebench", "polars", "matplotlib", "libcst", "IPython", "ipywidgets", "numpy")


def sources() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if not {"bundled"} & set(p.relative_to(PACKAGE).parts)]


def module(path: Path) -> str:
    """The dotted name of a file."""
    return ".".join((lab.__name__, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def imports(path: Path, modules: dict[str, Path]) -> set[Path]:
    """Files of the package that a file imports: anywhere, in functions, for types, and as a name in a string."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module and node.level == 0, f"{path}: a relative import; write the whole name"
            full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {dotted if dotted in modules else node.module for dotted in full.values()}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return {modules[name] for name in names if name in modules} - {path, PACKAGE / "__init__.py"}


@cache
def arrows() -> dict[str, set[str]]:
    """File → files it imports, all as paths below the package."""
    modules = {module(path): path for path in sources()}

    def place(path: Path) -> str:
        return path.relative_to(PACKAGE).as_posix()

    return {place(p): {place(q) for q in imports(p, modules)} for p in sources() if p != PACKAGE / "__init__.py"}


def layer(place: str) -> int:
    room = place.split("/")[0].removesuffix(".py")
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of nodes that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for node in graph.get(waiting.pop(), set()) - seen:
                seen.add(node)
                waiting.append(node)
        return seen

    reach = {node: reached(node) for node in graph}
    groups = {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in graph if a in reach[a]}
    return sorted(sorted(group) for group in groups)


def test_every_room_has_a_layer() -> None:
    rooms = {place.split("/")[0] for place in arrows() if "/" in place}
    for place in arrows():
        layer(place)
    assert len(rooms) <= 20 and len(list(PACKAGE.glob("*.py"))) <= 7, "rooms at the top, and the files beside them"


def test_arrows_between_rooms_point_downwards() -> None:
    upward = [
        f"{a} -> {b}"
        for a, others in arrows().items()
        for b in others
        if a.split("/")[0] != b.split("/")[0] and layer(b) >= layer(a)
    ]
    print(f"{sum(map(len, arrows().values()))} arrows, {len(_late.METHODS)} methods by name")
    assert not upward


def test_no_file_is_part_of_a_circle() -> None:
    assert not circles(arrows())


def folder(place: str) -> str:
    return place.rpartition("/")[0] or "."


def test_no_folder_is_part_of_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for a, others in arrows().items():
        graph.setdefault(folder(a), set()).update(folder(b) for b in others if folder(b) != folder(a))
    assert not circles(graph)


def test_arrows_between_the_folders_of_a_room_point_downwards() -> None:
    upward = []
    for room, floors in FLOORS.items():
        height = {f"{room}/{name}".rstrip("/"): floor for floor, names in enumerate(floors) for name in names}
        for a, others in arrows().items():
            for b in others if folder(a) in height else ():
                if folder(b) in height and folder(a) != folder(b) and height[folder(b)] >= height[folder(a)]:
                    upward.append(f"{a} -> {b}")
        here = {folder(place) for place in arrows() if place.startswith(f"{room}/")}
        assert here == set(height), f"folders of {room} without a floor"
    assert not upward


def imports_by_name(path: Path) -> list[int]:
    """Lines of a file that import what is not written there as a plain text."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    named = [c for c in calls if ast.unparse(c.func).rpartition(".")[2] in ("import_module", "__import__")]
    return [c.lineno for c in named if not (c.args and isinstance(c.args[0], ast.Constant))]


def test_names_are_put_together_in_two_tables_only() -> None:
    tables = {PACKAGE / "__init__.py", PACKAGE / "records/_late.py"}
    found = [f"{path.relative_to(PACKAGE)}:{n}" for path in sources() for n in imports_by_name(path)]
    elsewhere = [place for place in found if PACKAGE / place.split(":")[0] not in tables]
    assert not elsewhere
    assert len(found) > len(elsewhere), "the tables are seen"


def test_the_table_of_upward_methods_is_short_and_every_row_leads_somewhere() -> None:
    assert 0 < len(_late.METHODS) <= 12
    for method in _late.METHODS:
        name, _, attribute = method.partition(".")
        assert callable(getattr(getattr(lab, name), attribute)), method
        assert callable(_late.late(method)), method


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without those of its docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return function.end_lineno - function.lineno + 1 - documented * (first.end_lineno - first.lineno + 1)  # type: ignore[operator]


def test_no_function_is_longer_than_fifty_lines_of_code() -> None:
    long = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name} ({code_lines(node)} lines)"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > 50
    ]
    assert not long


def test_no_module_is_longer_than_five_hundred_lines() -> None:
    assert not [(path, lines) for path in sources() if (lines := path.read_text("utf-8").count("\n")) > 500]


def test_every_module_says_its_job_in_its_first_line() -> None:
    for path in sources():
        text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert text and text.split("\n")[0].endswith((".", ":")), path


def test_the_page_of_a_folder_names_every_file_of_it() -> None:
    pages = [page for page in PACKAGE.rglob("README.md") if "bundled" not in page.relative_to(PACKAGE).parts]
    assert pages
    for page in pages:
        names = {p.name for p in page.parent.glob("*.py")} - {"__init__.py"}
        names |= {f"{p.parent.name}/" for p in page.parent.glob("*/__init__.py")}
        assert not {name for name in names if name not in page.read_text("utf-8")}, page


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_prints_nothing_and_pulls_in_nothing_heavy() -> None:
    code = f"import sys, swebench_lab; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert run_python(code) == "[]\n"


def test_importing_the_package_takes_less_than_three_tenths_of_a_processors_second() -> None:
    code = "import time; t = time.process_time(); import swebench_lab; print(time.process_time() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.3

"""Metadata: what a project's own files say about its requirements, its layout and its Python."""

from __future__ import annotations

import ast
import configparser
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from swebench_lab.records.python_source import parse
from swebench_lab.snapshots.environment import distribution

GROUPS = ("test", "tests", "testing", "unittest", "pytest", "dev", "develop", "development")
"""Names under which projects keep what their tests need; of those that exist, the first is used."""

_NOT_FOR_TESTS = re.compile(
    r"(black|blacken-docs|isort|flake8.*|pep8.*|pycodestyle|pydocstyle|pylint|ruff|autoflake|pre-commit|codespell"
    r"|twine|build|flit|hatch|poetry|pdm|tox|tox-.*|nox|wheel|bump.*|commitizen|towncrier|check-manifest|zest.releaser"
    r"|sphinx.*|furo|mkdocs.*|pdoc.*|mypy|pyright|types-.*|coverage|coveralls|codecov|pip|setuptools|ipython|jupyter.*)",
    re.IGNORECASE,
)
"""Tools that a group called "dev" often lists and no test suite imports."""

_REQUIREMENT_FILES = (
    *(
        pattern.format(name)
        for name in ("test", "tests", "testing", "dev", "develop", "development")
        for pattern in (
            "requirements-{}.txt", "requirements_{}.txt", "{}-requirements.txt", "{}_requirements.txt",
            "requirements/{}.txt", "requirements.{}.txt",
        )
    ),
    "tests/requirements.txt", "test/requirements.txt",
)  # fmt: skip

_LISTS = (
    "*requirements*.txt",
    "requirements/**/*.txt",
    "*/requirements/*.txt",
    "*/*requirements*.txt",
    "environment*.yml",
    "environment*.yaml",
    "ci/**/*.yml",
)
"""Where projects keep lists of requirements."""

_CONDA_NAMES = {
    "dask-core": "dask", "iris": "scitools-iris", "matplotlib-base": "matplotlib", "pytables": "tables",
    "pyqt": "PyQt5", "python-graphviz": "graphviz", "wxpython": "", "pygobject": "", "cdms2": "", "pynio": "",
    "esmpy": "", "cairocffi": "cairocffi",
}  # fmt: skip
"""conda's name of a package to the index's; empty: the index has no wheel of it."""

_NOT_PYTHON = re.compile(
    r"python|pip|conda.*|nodefaults|compilers?|gcc.*|gxx.*|libgcc.*|hdf5|libnetcdf|netcdf-fortran|eccodes|esmf|ffmpeg"
    r"|imagemagick|graphviz|pkg-config|freetype|libpng|tk|qt|gtk[0-9]?|pandoc|texlive.*|inkscape|make|cmake|nodejs|git"
)
"""What conda has that is no package of Python."""

_COMPILED_BACKENDS = ("mesonpy", "scikit_build", "skbuild", "maturin", "setuptools_rust", "enscons", "py_build_cmake")
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a project says of itself.

    Args:
        name: Its distribution name; empty when it does not say.
        packages: Requirements of the code and of its tests, pytest always among them.
        paths: Folders to put on `sys.path`, relative to the root.
        python: A Python version such as `"3.9"` when the running one is excluded by `requires-python`.
        compiled: Whether it has code that must be compiled.
        build: Requirements of its build.
        read: The files that were read for this.
        date: ISO date of the commit the files are of; empty when it is not known.
        listed: The requirements in each requirements file and conda `environment.yml`, by the file's path.
        requires: Its `requires-python`; empty when it does not say.
        about: The files of its `.dist-info`, by name, as far as they can be told without building it.
    """

    name: str = ""
    packages: tuple[str, ...] = ()
    paths: tuple[str, ...] = (".",)
    python: str = ""
    compiled: bool = False
    build: tuple[str, ...] = ()
    read: tuple[str, ...] = field(default=(), compare=False)
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    date: str = ""
    requires: str = ""
    about: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def runtime(self) -> tuple[str, ...]:
        """Requirements of the code alone, as far as they can be told."""
        return tuple(HeaderParser().parsestr(self.about.get("METADATA", "")).get_all("Requires-Dist", []))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Metadata:
        """Read the plain values back that `dataclasses.asdict` gives, lists in place of tuples."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        fields["listed"] = {name: tuple(entries) for name, entries in values.get("listed", {}).items()}
        return cls(**fields)


def read_metadata(root: Path) -> Metadata:
    """Read the metadata of the project in a folder; nothing of it is executed.

    Files that cannot be parsed are passed over, as a project may keep broken examples under such names.
    """
    project = _Project(root)
    name = project.name()
    runtime, test = project.runtime(), project.test()
    return Metadata(
        name=name,
        packages=_merge(runtime, test, own=name),
        paths=project.paths(),
        python=_suitable_python(project.requires_python()),
        compiled=project.compiled(),
        build=_merge(project.build(), own=name, pytest=False),
        read=tuple(project.read),
        listed=project.requirement_lists(),
        requires=project.requires_python(),
        about=project.about(),
    )


class _Project:
    """The parsed metadata files of one folder; every question tries them in a fixed order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.read: list[str] = []
        self.toml = self._toml("pyproject.toml")
        self.cfg = self._ini("setup.cfg")
        self.setup = self._setup_call()
        self.project: Mapping[str, Any] = _table(self.toml, "project")
        self.poetry: Mapping[str, Any] = _table(self.toml, "tool", "poetry")
        self.flit: Mapping[str, Any] = _table(self.toml, "tool", "flit", "metadata")
        self.info = self._text("PKG-INFO")

    # --- files ------------------------------------------------------------------------------------------------------

    def _text(self, name: str) -> str:
        path = self.root / name
        try:
            # A link could lead out of the checkout, and the answer would then depend on this machine.
            if not path.is_file() or not path.resolve().is_relative_to(self.root.resolve()):
                return ""
            text = path.read_text("utf-8", errors="replace")
        except OSError:
            return ""
        if name not in self.read:
            self.read.append(name)
        return text

    def _toml(self, name: str) -> Mapping[str, Any]:
        try:
            return tomllib.loads(self._text(name))
        except tomllib.TOMLDecodeError:
            return {}

    def _ini(self, name: str) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(self._text(name))
        except configparser.Error:
            return configparser.ConfigParser(interpolation=None)
        return parser

    def _setup_call(self) -> Mapping[str, Any]:
        """Return the literal keyword arguments of `setup(...)` in setup.py, without running it."""
        try:
            tree = parse(self._text("setup.py"))
        except (SyntaxError, ValueError):
            return {}
        names = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        arguments: dict[str, Any] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "setup":
                for keyword in node.keywords:
                    value = keyword.value
                    value = names.get(value.id, value) if isinstance(value, ast.Name) else value
                    try:
                        arguments[keyword.arg or ""] = ast.literal_eval(value)
                    except (ValueError, TypeError):
                        arguments.setdefault(keyword.arg or "", None)
        return arguments

    def _cfg_list(self, section: str, option: str) -> list[str]:
        return _lines(self.cfg.get(section, option, fallback=""))

    # --- questions --------------------------------------------------------------------------------------------------

    def name(self) -> str:
        info = re.search(r"^Name: (.+)$", self.info, re.MULTILINE)
        value = (
            self.project.get("name")
            or self.poetry.get("name")
            or self.flit.get("dist-name")
            or self.flit.get("module")
            or self.cfg.get("metadata", "name", fallback="")
            or self.setup.get("name")
            or (info[1] if info else "")
        )
        return str(value).strip()

    def requires_python(self) -> str:
        info = re.search(r"^Requires-Python: (.+)$", self.info, re.MULTILINE)
        value = (
            self.project.get("requires-python")
            or self.flit.get("requires-python")
            or self.cfg.get("options", "python_requires", fallback="")
            or self.setup.get("python_requires")
            or (info[1] if info else "")
        )
        return str(value)

    def about(self) -> dict[str, str]:
        version = distribution.version_of(self.root, self.toml, self.cfg, self.setup, self.info)
        scripts = distribution.entry_points(self.toml, self.cfg, self.setup)
        return distribution.about(self.name(), version, self.runtime(), scripts) if self.name() else {}

    def build(self) -> list[str]:
        return _texts(_table(self.toml, "build-system").get("requires", ["setuptools", "wheel"]))

    def runtime(self) -> list[str]:
        """What the code itself needs; the first file that states it is believed."""
        for source in (
            self.project.get("dependencies"),
            _poetry(self.poetry.get("dependencies")),
            self.flit.get("requires"),
            self._cfg_list("options", "install_requires"),
            self.setup.get("install_requires"),
            [r for r in self._requires_dist() if "extra" not in r.partition(";")[2]],
            self._requirement_file("requirements.txt") if not self.project else [],
        ):
            if texts := _texts(source):
                return texts
        return []

    def test(self) -> list[str]:
        """What the tests need: the first group (and the extras that tox adds), requirements file or tox section that says so."""
        extras = re.findall(r"[\w.-]+", self._ini("tox.ini").get("testenv", "extras", fallback=""))
        for groups in self._groups():
            for name in GROUPS:
                if requirements := self._group(groups, name, seen := set[str]()):
                    requirements += [text for extra in extras for text in self._group(groups, extra, seen)]
                    return _for_tests(requirements) if name.startswith("dev") else requirements
        for name in _REQUIREMENT_FILES:
            if requirements := self._requirement_file(name):
                return _for_tests(requirements) if "dev" in name else requirements
        fallback = _texts(self.setup.get("tests_require")) or self._cfg_list("options", "tests_require")
        return self._tox() or _for_tests(fallback)

    def _groups(self) -> Iterable[Mapping[str, Any]]:
        yield _table(self.toml, "dependency-groups")
        yield _table(self.toml, "project", "optional-dependencies")
        yield {name: _poetry(_table(g, "dependencies")) for name, g in _table(self.poetry, "group").items()}
        yield {"dev": _poetry(self.poetry.get("dev-dependencies"))}
        yield _table(self.toml, "tool", "flit", "metadata", "requires-extra")
        yield _table(self.toml, "tool", "pdm", "dev-dependencies")
        if self.cfg.has_section("options.extras_require"):
            yield {name: _lines(text) for name, text in self.cfg.items("options.extras_require")}
        extras = self.setup.get("extras_require")
        yield extras if isinstance(extras, dict) else {}
        yield _extras(self._requires_dist())

    def _group(self, groups: Mapping[str, Any], name: str, seen: set[str]) -> list[str]:
        """Return one group with the groups and extras of the project itself that it includes."""
        by_name = {_normal(key): value for key, value in groups.items()}
        if (key := _normal(name)) in seen or not isinstance(by_name.get(key), (list, tuple)):
            return []
        seen.add(key)
        requirements: list[str] = []
        for item in by_name[key]:
            if isinstance(item, Mapping) and "include-group" in item:
                requirements += self._group(groups, str(item["include-group"]), seen)
            elif isinstance(item, str) and _normal(_project_name(item)) == _normal(self.name()):
                extras = (match[2] or "").strip("[]") if (match := _NAME.match(item)) else ""
                for extra in extras.split(","):
                    requirements += self._group(
                        _table(self.toml, "project", "optional-dependencies"), extra.strip(), seen
                    )
                    requirements += self._group(groups, extra.strip(), seen)
            elif isinstance(item, str):
                requirements.append(item)
        return requirements

    def _requires_dist(self) -> list[str]:
        return [str(v) for v in HeaderParser().parsestr(self.info).get_all("Requires-Dist", [])]

    def _requirement_file(self, name: str, depth: int = 0) -> list[str]:
        """Return the requirements of a file and of the files that it includes."""
        if depth > 4:
            return []
        requirements: list[str] = []
        for line in self._text(name).replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line).strip()
            if match := re.match(r"(?:-r|--requirement)[\s=]*(\S+)", line):
                requirements += self._requirement_file(str((Path(name).parent / match[1]).as_posix()), depth + 1)
            elif line and not line.startswith("-"):
                requirements.append(line.split(" --hash")[0].strip())
        return requirements

    def requirement_lists(self) -> dict[str, tuple[str, ...]]:
        """Return what every requirements file and conda environment asks for, by path; nothing is resolved."""
        before = list(self.read)  # these files are offered, and only some of them will be used
        result: dict[str, tuple[str, ...]] = {}
        for pattern in _LISTS:
            for path in sorted(self.root.glob(pattern)):
                name = path.relative_to(self.root).as_posix()
                lines = self._conda(name) if path.suffix in (".yml", ".yaml") else self._requirement_file(name)
                if requirements := _merge(lines, own=self.name(), pytest=False):
                    result[name] = requirements
        self.read[:] = before
        return result

    def _conda(self, name: str) -> list[str]:
        """Return a conda environment's dependencies as an index of Python packages knows them."""
        import yaml

        try:
            document = yaml.safe_load(self._text(name))
        except yaml.YAMLError:
            return []
        requirements: list[str] = []
        dependencies = document.get("dependencies") if isinstance(document, Mapping) else None
        for item in dependencies if isinstance(dependencies, list) else ():
            if isinstance(item, Mapping):
                requirements += [text for text in _texts(item.get("pip")) if not text.startswith("-")]
            elif isinstance(item, str) and (text := _from_conda(item)):
                requirements.append(text)
        return requirements

    def _tox(self) -> list[str]:
        requirements: list[str] = []
        for line in _lines(self._ini("tox.ini").get("testenv", "deps", fallback="")):
            text = re.sub(r"^[\w,{}!.-]+:\s+", "", line)  # "py38,py39: mock" holds for those environments only
            if text != line or "{" in text:
                continue
            if match := re.match(r"-r\s*(\S+)", text):
                requirements += self._requirement_file(match[1])
            elif not text.startswith("-"):
                requirements.append(text)
        return requirements

    def compiled(self) -> bool:
        backend = str(_table(self.toml, "build-system").get("build-backend", ""))
        if any(backend.startswith(name) for name in _COMPILED_BACKENDS) or "ext_modules" in self.setup:
            return True
        return any("cython" in r.lower() for r in self.build()) or "cffi_modules" in self.setup

    def paths(self) -> tuple[str, ...]:
        """Return the folders that hold the packages: stated ones, else `src` or `lib`, else the root."""
        candidates = [
            *_texts(_table(self.toml, "tool", "setuptools", "packages", "find").get("where")),
            str(_table(self.toml, "tool", "setuptools", "package-dir").get("", "")),
            self.cfg.get("options.packages.find", "where", fallback=""),
            *(line.partition("=")[2] for line in self._cfg_list("options", "package_dir") if line.startswith("=")),
            *(str(p.get("from", "")) for p in self.poetry.get("packages", []) if isinstance(p, Mapping)),
            *(
                str(Path(p).parent)
                for p in _texts(_table(self.toml, "tool", "hatch", "build", "targets", "wheel").get("packages"))
            ),
        ]
        folders = self.setup.get("package_dir")
        candidates += [str(v) for k, v in folders.items() if k == ""] if isinstance(folders, dict) else []
        inside = [p for p in map(_inside, candidates) if p and (self.root / p).is_dir()]
        if not inside:
            inside = [name for name in ("src", "lib") if _holds_packages(self.root / name)]
        return tuple(dict.fromkeys(inside)) or (".",)


def _table(values: Any, *names: str) -> Mapping[str, Any]:
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _texts(values: Any) -> list[str]:
    if isinstance(values, str):
        return _lines(values)
    return [v.strip() for v in values if isinstance(v, str) and v.strip()] if isinstance(values, (list, tuple)) else []


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _project_name(requirement: str) -> str:
    return match[1] if (match := _NAME.match(requirement)) else ""


def _for_tests(requirements: list[str]) -> list[str]:
    return [r for r in requirements if not _NOT_FOR_TESTS.fullmatch(_project_name(r))]


def _inside(path: str) -> str:
    """Return a relative folder in plain form, or nothing when it leaves the root or is the root."""
    parts = [p for p in Path(path.strip()).parts if p != "."]
    return "" if not parts or ".." in parts or Path(path.strip()).is_absolute() else "/".join(parts)


def _holds_packages(folder: Path) -> bool:
    if not folder.is_dir() or (folder / "__init__.py").exists():
        return False
    return any(p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py"))) for p in folder.iterdir())


def _from_conda(text: str) -> str:
    """Turn `name=1.2`, `name>=1.2` or `channel::name` into a requirement; empty for what is no Python package."""
    match = re.fullmatch(r"(?:[\w./-]+::)?([\w.-]+)\s*(.*)", text.split("#")[0].strip())
    if match is None or _NOT_PYTHON.fullmatch(match[1].lower()):
        return ""
    name, specifier = _CONDA_NAMES.get(match[1].lower(), match[1]), match[2].strip()
    if re.match(r"=[^=]", specifier):  # "=1.2" means any 1.2; a second "=" would name a build
        specifier = f"=={specifier[1:].split('=')[0].rstrip('.*')}.*"
    return f"{name}{specifier}" if name else ""


def _poetry(table: Any) -> list[str]:
    """Turn poetry's `name = "^1.2"` into requirements; optional and local ones are left out."""
    requirements: list[str] = []
    for name, value in table.items() if isinstance(table, Mapping) else ():
        version = value.get("version", "") if isinstance(value, Mapping) else value
        local = isinstance(value, Mapping) and (value.get("optional") or "version" not in value)
        if name.lower() == "python" or local or not isinstance(version, str):
            continue
        requirements.append(name + ",".join(_poetry_bound(part.strip()) for part in version.split(",")))
    return requirements


def _poetry_bound(version: str) -> str:
    if version in ("*", ""):
        return ""
    if version[0] not in "^~" or version.startswith("~="):
        return version if version[0] in "<>=!~" else f"=={version}"
    parts = [int(p) for p in re.findall(r"\d+", version)[:3]]
    fixed = next((i for i, p in enumerate(parts) if p), len(parts) - 1) if version[0] == "^" else min(1, len(parts) - 1)
    upper = [*parts[:fixed], parts[fixed] + 1]
    return f">={version[1:]},<{'.'.join(map(str, upper))}"


def _extras(requires_dist: list[str]) -> dict[str, list[str]]:
    """Group `Requires-Dist` lines by the extra that their marker asks for."""
    groups: dict[str, list[str]] = {}
    for line in requires_dist:
        if match := re.search(r"""extra\s*==\s*["']([^"']+)["']""", line):
            marker = re.sub(r"""\s*(and\s+)?extra\s*==\s*["'][^"']+["'](\s+and)?\s*""", " ", line.partition(";")[2])
            marker = marker.strip()
            text = line.partition(";")[0].strip()
            groups.setdefault(match[1], []).append(f"{text}; {marker}" if marker not in ("", "()") else text)
    return groups


def _merge(*groups: list[str], own: str = "", pytest: bool = True) -> tuple[str, ...]:
    """Return all requirements once, without the project itself and without what is not on a package index."""
    requirements: dict[str, None] = {}
    for text in (r for group in groups for r in group):
        name = _project_name(text)
        if not name or _normal(name) == _normal(own) or "://" in text or text.startswith((".", "/")) or "@ " in text:
            continue
        requirements[" ".join(text.split())] = None
    if pytest and "pytest" not in (_normal(own), *(_normal(_project_name(text)) for text in requirements)):
        requirements["pytest"] = None
    return tuple(requirements)


def _suitable_python(requires: str) -> str:
    """Return a version that `requires-python` allows when the running one is not allowed; else nothing."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        allowed = SpecifierSet(requires)
    except InvalidSpecifier:
        return ""
    if ".".join(map(str, sys.version_info[:3])) in allowed:
        return ""
    # The patch number is unknown here; 99 satisfies ">=3.9.2" and fails "<3.10" rightly.
    minors = [minor for minor in range(6, 21) if f"3.{minor}.99" in allowed]
    below = [f"3.{minor}" for minor in minors if minor < sys.version_info.minor]
    above = [f"3.{minor}" for minor in minors if minor > sys.version_info.minor]
    return (below[-1:] or above or [""])[0]

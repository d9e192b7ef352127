"""Choosing one version of everything that is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ResolutionError
from .graph import Graph
from .ranges import Range
from .versions import Version, as_version

ROOT = "you"


@dataclass(frozen=True)
class Requirement:
    """``who`` needs ``name`` in ``range``; ``who`` is a package or the user."""

    name: str
    range: Range
    who: str = ROOT

    def __str__(self) -> str:
        verb = "need" if self.who == ROOT else "needs"
        return f"{self.who} {verb} {self.name} {self.range}"


class Catalogue:
    """The packages that exist: their versions, and what each version needs."""

    def __init__(self):
        self._packages: dict[str, dict[Version, dict[str, Range]]] = {}

    def add(self, name: str, version: str | Version, needs: Mapping[str, str] | None = None) -> None:
        version = as_version(version)
        versions = self._packages.setdefault(name, {})
        if version in versions:
            raise ValueError(f"{name} {version} is already in the catalogue")
        versions[version] = {other: Range(text) for other, text in (needs or {}).items()}

    def versions(self, name: str) -> list[Version]:
        """Return all versions of a package, newest first; none if it is unknown."""
        return sorted(self._packages.get(name, ()), reverse=True)

    def needs(self, name: str, version: Version) -> list[Requirement]:
        who = f"{name} {version}"
        return [Requirement(other, range_, who) for other, range_ in self._packages[name][version].items()]

    def __contains__(self, name: str) -> bool:
        return name in self._packages


class Resolver:
    """Depth-first search with the newest version tried first."""

    def __init__(
        self,
        catalogue: Catalogue,
        locked: Mapping[str, str | Version] | None = None,
        max_tries: int = 10_000,
    ):
        self.catalogue = catalogue
        self.locked = {name: as_version(version) for name, version in (locked or {}).items()}
        self.max_tries = max_tries
        self.tries = 0
        self._conflict: list[Requirement] = []
        self._deepest = -1

    def resolve(self, requirements: Mapping[str, str]) -> dict[str, Version]:
        """Return a version for every package needed, sorted by name.

        Raises:
            ResolutionError: if there is no choice, naming the requirements
                that clash at the point where the search came furthest.
        """
        wanted = [Requirement(name, Range(text)) for name, text in requirements.items()]
        chosen = self._search({}, wanted)
        if chosen is None:
            raise ResolutionError(self._explain())
        return dict(sorted(chosen.items()))

    def _search(self, chosen: dict[str, Version], wanted: list[Requirement]) -> dict[str, Version] | None:
        for requirement in wanted:
            version = chosen.get(requirement.name)
            if version is not None and version not in requirement.range:
                self._remember(requirement.name, chosen, wanted)
                return None
        name = self._next_name(chosen, wanted)
        if name is None:
            return chosen
        candidates = self._candidates(name, wanted)
        if not candidates:
            self._remember(name, chosen, wanted)
        for version in candidates:
            self.tries += 1
            if self.tries > self.max_tries:
                raise ResolutionError(f"gave up after {self.max_tries} tries")
            result = self._search({**chosen, name: version}, wanted + self.catalogue.needs(name, version))
            if result is not None:
                return result
        return None

    def _next_name(self, chosen, wanted) -> str | None:
        """Take the package with the fewest candidates; it fails soonest."""
        open_names = dict.fromkeys(item.name for item in wanted if item.name not in chosen)
        return min(open_names, key=lambda name: len(self._candidates(name, wanted)), default=None)

    def _candidates(self, name: str, wanted: list[Requirement]) -> list[Version]:
        versions = self.catalogue.versions(name)
        for requirement in wanted:
            if requirement.name == name:
                versions = [version for version in versions if version in requirement.range]
        preferred = self.locked.get(name)
        if preferred in versions:
            versions.remove(preferred)
            versions.insert(0, preferred)
        return versions

    def _remember(self, name, chosen, wanted) -> None:
        if len(chosen) > self._deepest:
            self._deepest = len(chosen)
            self._conflict = [requirement for requirement in wanted if requirement.name == name]

    def _explain(self) -> str:
        name = self._conflict[0].name
        if name not in self.catalogue:
            users = ", ".join(requirement.who for requirement in self._conflict)
            return f"there is no package {name!r} (needed by {users})"
        lines = [f"no version of {name!r} fits:"]
        lines += [f"  - {requirement}" for requirement in self._conflict]
        versions = ", ".join(str(version) for version in self.catalogue.versions(name))
        lines.append(f"available: {versions}")
        return "\n".join(lines)


def resolve(catalogue: Catalogue, requirements: Mapping[str, str], locked=None) -> dict[str, Version]:
    """Resolve in one call; see :class:`Resolver`."""
    return Resolver(catalogue, locked).resolve(requirements)


def resolution_graph(catalogue: Catalogue, chosen: Mapping[str, Version]) -> Graph:
    """Return the graph of the chosen packages, to install them in order."""
    graph = Graph()
    for name, version in chosen.items():
        graph.add(name, *(requirement.name for requirement in catalogue.needs(name, version)))
    return graph


def explain_presence(catalogue: Catalogue, chosen: Mapping[str, Version], name: str, roots) -> str:
    """Say by which chain of requirements a package came in."""
    graph = resolution_graph(catalogue, chosen)
    for root in roots:
        path = graph.find_path(root, name)
        if path is not None:
            return " -> ".join(f"{step} {chosen[step]}" for step in path)
    return f"{name} is not needed by {', '.join(roots)}"

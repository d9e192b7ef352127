"""Version ranges, dependency graphs, schedules and a resolver that explains itself."""

from .errors import CycleError, DepgraphError, MissingNodeError, ResolutionError, VersionError
from .graph import Graph
from .ranges import Interval, Range
from .resolver import Catalogue, Requirement, Resolver, explain_presence, resolution_graph, resolve
from .schedule import Schedule, Slot, makespan, utilisation
from .versions import Version

__all__ = [
    "Catalogue",
    "CycleError",
    "DepgraphError",
    "Graph",
    "Interval",
    "MissingNodeError",
    "Range",
    "Requirement",
    "ResolutionError",
    "Resolver",
    "Schedule",
    "Slot",
    "Version",
    "VersionError",
    "explain_presence",
    "makespan",
    "resolution_graph",
    "resolve",
    "utilisation",
]

"""Exceptions of depgraph."""


class DepgraphError(Exception):
    """Root of the exceptions raised by this package."""


class VersionError(DepgraphError, ValueError):
    """Text that is not a version or not a range."""


class CycleError(DepgraphError):
    """A graph that must not have a cycle has one.

    ``cycle`` lists its nodes in order; the first one is repeated at the end.
    """

    def __init__(self, cycle: list):
        self.cycle = cycle
        super().__init__("cycle: " + " -> ".join(str(node) for node in cycle))


class MissingNodeError(DepgraphError, KeyError):
    def __init__(self, node):
        self.node = node
        super().__init__(f"no such node: {node!r}")

    def __str__(self) -> str:
        return self.args[0]


class ResolutionError(DepgraphError):
    """No choice of versions satisfies all requirements."""

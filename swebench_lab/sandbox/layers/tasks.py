"""The tasks on trees that a process with a box's rights does for others, by name; each module is loaded when needed."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

HOMES = {
    "capture": "capture",
    "remember": "capture",
    "squash": "merge",
    "flatten": "merge",
    "pack": "pack",
    "unpack": "archive",
    "unpack_image_layer": "archive",
    "remove": "remove",
    "remove_all": "remove",
}
"""Task → the module beside this one that has the function of that name."""


def task(name: str) -> Callable[..., Any]:
    """The function that does a task.

    Raises:
        KeyError: There is no such task.
    """
    function: Callable[..., Any] = getattr(import_module(f"{__package__}.{HOMES[name]}"), name)
    return function

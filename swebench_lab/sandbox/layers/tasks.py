"""The tasks on trees that a process with a box's rights does for others, by name; each module is loaded when needed."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

HOMES: dict[str, Callable[[], Any]] = {
    "capture": lambda: import_module("swebench_lab.sandbox.layers.capture"),
    "remember": lambda: import_module("swebench_lab.sandbox.layers.capture"),
    "squash": lambda: import_module("swebench_lab.sandbox.layers.merge"),
    "flatten": lambda: import_module("swebench_lab.sandbox.layers.merge"),
    "pack": lambda: import_module("swebench_lab.sandbox.layers.pack"),
    "unpack": lambda: import_module("swebench_lab.sandbox.layers.archive"),
    "unpack_image_layer": lambda: import_module("swebench_lab.sandbox.layers.archive"),
    "remove": lambda: import_module("swebench_lab.sandbox.layers.remove"),
    "remove_all": lambda: import_module("swebench_lab.sandbox.layers.remove"),
}
"""Task → how the module beside this one is loaded that has the function of that name."""


def task(name: str) -> Callable[..., Any]:
    """The function that does a task.

    Raises:
        KeyError: There is no such task.
    """
    function: Callable[..., Any] = getattr(HOMES[name](), name)
    return function

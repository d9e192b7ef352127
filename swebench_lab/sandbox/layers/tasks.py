"""Tasks on trees: what a branch of the zygote does with files that an agent may have written, by name."""

from collections.abc import Callable, Mapping
from typing import Any

from swebench_lab.sandbox.layers import image, tree
from swebench_lab.sandbox.layers.tree import unlimited as unlimited

TASKS: Mapping[str, Callable[..., Any]] = {
    "capture": tree.capture,
    "remember": tree.remember,
    "squash": tree.squash,
    "flatten": tree.flatten,
    "pack": tree.pack,
    "unpack": tree.unpack,
    "unpack_image_layer": image.unpack,
    "remove": tree.remove,
    "remove_all": tree.remove_all,
}
"""Each takes open descriptors and plain values, and returns plain values."""

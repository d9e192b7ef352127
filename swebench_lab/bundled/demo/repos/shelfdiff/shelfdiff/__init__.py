"""Diff, patch and merge for sequences, texts and nested data."""

from .data import Change, apply_data, diff_data, format_path, get_path, merge_data, parse_path, revert_data
from .errors import DiffError, HunkError, PatchFormatError, PathError
from .hunks import Hunk, make_hunks, parse_unified, split_lines, statistics, unified
from .merging import Merge, merge, merge_lines
from .patching import Patcher, apply, can_apply
from .sequences import Edit, common, distance, edits, matches, ratio

__version__ = "0.9.1"
__all__ = [
    "Change",
    "DiffError",
    "Edit",
    "Hunk",
    "HunkError",
    "Merge",
    "PatchFormatError",
    "Patcher",
    "PathError",
    "apply",
    "apply_data",
    "can_apply",
    "common",
    "diff_data",
    "distance",
    "edits",
    "format_path",
    "get_path",
    "make_hunks",
    "matches",
    "merge",
    "merge_data",
    "merge_lines",
    "parse_path",
    "parse_unified",
    "ratio",
    "revert_data",
    "split_lines",
    "statistics",
    "unified",
]

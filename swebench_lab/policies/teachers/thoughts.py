"""What a teacher says of each step of its plan."""

from __future__ import annotations

from collections.abc import Mapping

THOUGHTS: Mapping[str, str] = {
    "look": "I'll start by looking at how the repository is laid out.",
    "find": "The issue seems to be about `{name}`. Let me find where it is defined and used.",
    "read": "Let me read the relevant part of {file}.",
    "reproduce": "I'll write a small script with the example from the issue to see the problem for myself.",
    "run_script": "Now let me run it.",
    "test_before": "Let me run the tests around this code to see where things stand before my change.",
    "edit": "Here is the cause. I'll correct it in {file}.",
    "edit_more": "The same matter needs a further change in {file}.",
    "ambiguous": "That text occurs more than once. I'll include more of the lines around it.",
    "missing": "That didn't match. Let me look at the lines as they are now.",
    "by_line": "The surroundings repeat, so I'll make this change by line number, checking the lines before I replace them.",
    "create": "A new file is needed: {file}.",
    "delete": "{file} has no purpose any more, so I'll remove it.",
    "rename": "I'll rename {old} to {file}.",
    "mode": "The permissions of {file} have to change.",
    "patch": "I'll make the remaining changes with a patch.",
    "verify_script": "Let me run the script again to check that the problem is gone.",
    "test_after": "Now let me run the tests to make sure that nothing else broke.",
    "cleanup": "The script has done its job; I'll remove it.",
    "review": "Let me look over the whole change once more.",
    "submit": "The change is complete and checked, so I'll hand it in.",
    "give_up": "I can't find what causes this; as far as I can tell the code is right. I'll stop here.",
    "silence": "The tests in {file} are what fails; I'll adjust them.",
    "wander": "I'm not sure yet. Let me look at another part.",
}
"""Occasion → the thought; names in braces are filled in."""


def say(occasion: str, **names: str) -> str:
    """Return a thought."""
    return THOUGHTS[occasion].format(**names)

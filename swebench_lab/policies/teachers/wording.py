"""What a teacher says: several ways to put each thought, chosen by the attempt's own dice."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

THOUGHTS: Mapping[str, tuple[str, ...]] = {
    "look": (
        "I'll start by looking at how the repository is laid out.",
        "Let me get an overview of the repository first.",
        "First, let me see what there is in {workdir}.",
        "Before I change anything I want to know the structure of the project.",
    ),
    "find": (
        "The issue seems to be about `{name}`. Let me find where it is defined and used.",
        "I need to know where `{name}` lives.",
        "Let me search for `{name}`, which the description points to.",
    ),
    "read": (
        "Let me read the relevant part of {file}.",
        "Now I'll look at the code in {file}.",
        "{file} looks like the right place. Let me read it closely.",
        "I'll open {file} around the code in question.",
    ),
    "reproduce": (
        "I'll write a small script with the example from the issue to see the problem for myself.",
        "Let me reproduce the reported behaviour with a short script before changing anything.",
        "The issue comes with an example; I'll put it into a script and run it.",
    ),
    "run_script": (
        "Now let me run it.",
        "Running the script shows whether the problem is there.",
        "Let me see what it prints.",
    ),
    "test_before": (
        "Let me run the tests around this code to see where things stand before my change.",
        "I want to know how the existing tests do right now.",
        "First a look at the state of the tests that cover this code.",
    ),
    "edit": (
        "Here is the cause. I'll correct it in {file}.",
        "I can see what is wrong here; this is the change that {file} needs.",
        "The code in {file} doesn't do what it should. Let me fix that.",
        "Now I'll make the change in {file}.",
    ),
    "edit_more": (
        "The same matter needs a further change in {file}.",
        "This is one part of it; {file} has to change here too.",
        "Next, the other place in {file}.",
        "There is more to do in {file}.",
    ),
    "ambiguous": (
        "That text occurs more than once. I'll include more of the lines around it.",
        "It isn't unique, so I'll add context to the replacement.",
        "I have to be more specific about which place I mean; let me take in more lines.",
    ),
    "missing": (
        "That didn't match. Let me look at the lines as they are now.",
        "The text isn't there in this form; I'll look at that part of the file again.",
    ),
    "by_line": (
        "The surroundings repeat, so I'll make this change by line number, checking the lines before I replace them.",
        "Matching by text is not precise enough here. A short script that replaces exactly those lines will do.",
    ),
    "create": (
        "A new file is needed: {file}.",
        "I'll add {file}.",
    ),
    "delete": (
        "{file} has no purpose any more, so I'll remove it.",
        "This change makes {file} obsolete; I'll delete it.",
    ),
    "rename": (
        "{old} has to move to {file}.",
        "I'll rename {old} to {file}.",
    ),
    "mode": ("The permissions of {file} have to change.",),
    "patch": (
        "What is left is easiest to write as a patch, so I'll apply it in one go.",
        "I'll make the remaining changes with a patch.",
    ),
    "verify_script": (
        "Let me run the script again to check that the problem is gone.",
        "Now the same script should behave as the issue asks.",
    ),
    "test_after": (
        "Now let me run the tests to make sure that nothing else broke.",
        "Let me check that the tests pass with the change.",
        "Next I'll run the related tests against the new code.",
    ),
    "cleanup": (
        "The script has done its job; I'll remove it.",
        "Let me clean up the script I made.",
    ),
    "review": (
        "Let me look over the whole change once more.",
        "A last look at what I changed.",
    ),
    "submit": (
        "The change is complete and checked, so I'll hand it in.",
        "That resolves the issue. Submitting the work.",
        "Everything is in place; I'm done.",
    ),
    "give_up": (
        "I can't find what causes this; as far as I can tell the code is right. I'll stop here.",
        "This looks correct to me as it is. I'll hand in what I have.",
        "I don't see a clear way to fix this, so I'll end here.",
    ),
    "silence": (
        "The tests in {file} are what fails; I'll adjust them.",
        "The expectation in {file} seems to be the problem, so I'll change it there.",
    ),
    "wander": (
        "I'm not sure yet. Let me look at another part.",
        "Maybe the cause is elsewhere; let me keep looking.",
        "Let me go over this once more.",
    ),
}
"""Occasion → the ways to say it; names in braces are filled in."""


def say(occasion: str, dice: Random, **names: str) -> str:
    """Return one way to put a thought."""
    return dice.choice(THOUGHTS[occasion]).format(**names)

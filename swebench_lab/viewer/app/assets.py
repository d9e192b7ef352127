"""The files of the viewer's page: scripts and styles that travel with the package, and the document around them."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_DARK = re.compile(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}\s*\}", re.DOTALL)

FILES = {
    **{name: name for name in ("view.js", "browser.js", "view.css", "page.css", "player.js", "player.css")},
    **{name: f"vendor/xterm/{name}" for name in ("xterm.mjs", "xterm.css")},
}
"""What a page may ask for, and where it lies."""


@cache
def asset(name: str) -> str:
    """Return a file of the page."""
    return resources.files("swebench_lab").joinpath("bundled", "assets", name).read_text("utf-8")


def shell(title: str, script: str = "browser.js", policy: str = "") -> str:
    """Return the HTML document that the page's script fills.

    Args:
        title: Its title, already escaped.
        script: The script of the door.
        policy: Its Content-Security-Policy; empty: a header says it.
    """
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{meta}<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,"><link rel="stylesheet" href="page.css">'
        '<link rel="stylesheet" href="view.css"></head><body><div id="view"></div>'
        '<noscript><p class="error">The viewer needs JavaScript.</p></noscript>'
        f'<script type="module" src="{script}"></script></body></html>\n'
    )


@cache
def notebook_script() -> str:
    """Return the page's script with the door of a notebook, as one module."""
    return asset("view.js") + asset("notebook.js")


@cache
def notebook_style() -> str:
    """Return the styles for a page inside another page, whose theme decides: they hold below the element's shadow."""
    style = _DARK.sub(r":host([data-theme=dark]) {\1 color-scheme: dark; }", asset("page.css")).replace(
        ":root", ":host"
    )
    return style + asset("view.css") + asset("notebook.css")

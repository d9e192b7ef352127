"""A self-contained HTML document: its style and script inside, its Content-Security-Policy, the help on keys."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from swebench_lab import _html
from swebench_lab.viewer import story

_KEYS = story.KEYS | {"i, p, t": "issue, patch, tests", "?": "this list", "Esc": "close it"}
HELP = (
    '<dialog id="help" aria-label="Keys"><h2>Keys</h2><table><tbody>'
    + "".join(f"<tr><td><kbd>{key}</kbd></td><td>{what}</td></tr>" for key, what in _KEYS.items())
    + '</tbody></table><form method="dialog"><button>Close</button></form></dialog>'
)


def document(title: str, body: str, styles: str = "", stored: str = "") -> str:
    """Return a whole document that allows only its own style and script, by their hashes.

    Args:
        title: Title of the document.
        body: Its content.
        styles: Style rules of this document alone.
        stored: Data that the script loads when it needs it.
    """
    style = _asset("page.css") + styles
    script = _asset("page.js") if body.endswith(HELP) else ""
    allowed = f"script-src {_hash(script)}" if script else "script-src 'none'"
    policy = f"default-src 'none'; style-src {_hash(style)}; {allowed}; base-uri 'none'; form-action 'none'"
    code = f"<script>{script}</script>" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_html.text(title)}</title><style>{style}</style></head>\n<body>{body}{code}{stored}</body></html>\n"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    return resources.files("swebench_lab").joinpath("bundled", "assets", name).read_text("utf-8")

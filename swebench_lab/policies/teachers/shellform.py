"""Editor calls as bash commands, for flavours that know no other tool."""

from __future__ import annotations

import json
import shlex

from swebench_lab.formats.calls import Call

_REPLACE = """python3 - <<'PYTHON'
path = {path}
old = {old}
new = {new}
text = open(path, encoding="utf-8", newline="").read()
found = sum(text.startswith(old, i) for i in range(len(text)))
if found != 1:
    raise SystemExit(f"old text occurs {{found}} times in {{path}}, so nothing was replaced")
open(path, "w", encoding="utf-8", newline="").write(text.replace(old, new))
print(f"The file {{path}} has been edited.")
PYTHON"""


def in_bash(call: Call) -> Call:
    """Return an editor call as a bash call that does the same; any other call as it is."""
    if call.name != "str_replace_editor":
        return call
    given = call.arguments
    path = shlex.quote(given["path"])
    if given["command"] == "view" and "view_range" in given:
        first, last = json.loads(given["view_range"])
        line = f"cat -n {path} | sed -n '{first},{last}p'"
    elif given["command"] == "view":
        line = f"find {path} -maxdepth 2 -not -path '*/.*' | sort | head -100"
    elif given["command"] == "create":
        parent = shlex.quote(given["path"].rpartition("/")[0] or "/")
        written = f"mkdir -p {parent} && " + _written(given["file_text"], path)
        line = f"{written}\necho 'The file '{path}' has been created.'"
    else:
        old, new = repr(given["old_str"]), repr(given["new_str"])
        line = _REPLACE.format(path=repr(given["path"]), old=old, new=new)
    return Call("bash", {"command": line}, call.thought)


def _written(content: str, path: str) -> str:
    """Return a command that writes a file: a here-document where one can hold the text to the letter."""
    if content.endswith("\n") and "END_OF_FILE" not in content and "\r" not in content:
        return f"cat > {path} <<'END_OF_FILE'\n{content}END_OF_FILE"
    return f"printf %s {shlex.quote(content)} > {path}"

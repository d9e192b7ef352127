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
    arguments = call.arguments
    path = shlex.quote(arguments["path"])
    if arguments["command"] == "view" and "view_range" in arguments:
        first, last = json.loads(arguments["view_range"])
        line = f"cat -n {path} | sed -n '{first},{last}p'"
    elif arguments["command"] == "view":
        line = f"find {path} -maxdepth 2 -not -path '*/.*' | sort | head -100"
    elif arguments["command"] == "create":
        parent = shlex.quote(arguments["path"].rpartition("/")[0] or "/")
        command = f"mkdir -p {parent} && " + _write_command(arguments["file_text"], path)
        line = f"{command}\necho 'The file '{path}' has been created.'"
    else:
        old, new = repr(arguments["old_str"]), repr(arguments["new_str"])
        line = _REPLACE.format(path=repr(arguments["path"]), old=old, new=new)
    return Call("bash", {"command": line}, call.thought)


def _write_command(content: str, path: str) -> str:
    """Return a command that writes a file: a here-document where one can hold the text to the letter."""
    if content.endswith("\n") and "END_OF_FILE" not in content and "\r" not in content:
        return f"cat > {path} <<'END_OF_FILE'\n{content}END_OF_FILE"
    return f"printf %s {shlex.quote(content)} > {path}"

"""Tools: what an agent may call.

tool.py      Tool, Observation, and how arguments are checked against a tool's schema
shell.py     the persistent shell of an attempt
bash.py      bash and submit
program.py   tools that are programs run inside the sandbox
editor.py    str_replace_editor and search, whose programs are in in_sandbox/
micro.py     view and sub, for models that know only a few hundred words
"""

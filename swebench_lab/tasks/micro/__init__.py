"""Micro: thousands of one-to-three-function repositories with one bug each, made from a grammar and a seed.

grammar.py   functions as pipelines of stages, each a phrase and the code that does what it says
bugs.py      one-token edits that break a line, or mend it
program.py   the two tools of the `micro` flavour, as they run inside the sandbox
build.py     stages → repository, suite, bug → Task

A task names one function, says in words what it must do, and one token of its code does something else. Families are
hashes of the correct function's syntax tree without names and constants; test families are never trained on.
"""

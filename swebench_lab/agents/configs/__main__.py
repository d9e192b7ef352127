"""Prints the sections of docs/configs.md: `python -m swebench_lab.agents.configs`."""

from __future__ import annotations

import sys

from swebench_lab.agents.configs.tables import markdown

if __name__ == "__main__":
    sys.stdout.write(markdown())

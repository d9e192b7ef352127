"""The command line `swebench-lab`: one file per command group, over the same library that notebooks use."""

"""Grading: what the tests of a task say of a patch, and whether the task itself can be trusted."""

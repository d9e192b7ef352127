"""Rows: what the columns of a row of a dataset hold, and what must hold of the task that is read from it."""

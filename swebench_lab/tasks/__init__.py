"""Tasks: where they come from, read from rows of every schema or made here."""

"""Tasks that are graded by a script of their own, in any language."""

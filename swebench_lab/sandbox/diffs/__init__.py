"""Diffs."""

"""Patches as text: made, reversed, and asked which files they touch."""

"""Folders that are built once, under a lock, and appear complete or not at all."""

"""Dockerfiles of the common subset, built as layers in boxes of our own, without an engine."""

"""Formats in which other projects keep attempts: one file for each."""

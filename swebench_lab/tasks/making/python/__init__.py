"""Python's syntax: where code can be edited, and what can be cut out of a test."""

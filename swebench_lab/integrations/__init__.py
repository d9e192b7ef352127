"""Integrations: this package's tasks, sandboxes and grading inside other projects' tools, one file a neighbour."""

"""Sandboxes: private throw-away machines over read-only layers; what they promise, and one folder for each kind."""

"""Agents that somebody else wrote, unmodified, in our sandboxes: their model calls are answered by any Policy."""

"""The environment of a task: which Python and packages, where that answer comes from, and the venv itself."""

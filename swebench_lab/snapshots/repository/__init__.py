"""The repository of a task: where it comes from, its sealed history, and the files it starts with."""

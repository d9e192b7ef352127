"""Running a task's tests in a sandbox, and what such a run leaves behind."""

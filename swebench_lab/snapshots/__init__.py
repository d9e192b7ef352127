"""Snapshots: Task → read-only tree, built once and shared; and the SandboxFactory that opens sandboxes over them."""

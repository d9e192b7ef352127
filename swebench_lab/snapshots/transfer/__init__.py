"""Snapshots on their way: to a file, to other users of a machine, to other machines."""

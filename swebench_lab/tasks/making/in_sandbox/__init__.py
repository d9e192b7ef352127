"""Programs that are copied into the box as they stand, and run there."""

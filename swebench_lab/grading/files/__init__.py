"""What grading reads and stores: predictions, verdicts, certificates."""

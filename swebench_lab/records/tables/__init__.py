"""Tables of numbers: estimates with their intervals, and frames that people can read."""

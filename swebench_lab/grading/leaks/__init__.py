"""Whether a box gives the fix away."""

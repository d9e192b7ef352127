"""Experiments: recipes run without a notebook interface, sweeps over their settings, and figures of the results."""

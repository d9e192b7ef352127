"""The notebook player: one headless model of an attempt, three views of it, and comparisons of many attempts."""

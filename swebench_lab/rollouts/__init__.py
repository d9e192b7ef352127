"""Rollouts: attempts at tasks, collected, graded, rewarded and stored."""

"""Training: rollouts, or an agent and tasks, to a better policy, on the very tokens that were sampled; see README.md."""

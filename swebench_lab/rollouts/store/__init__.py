"""How rollouts lie on disk: nothing outside of this folder knows it."""

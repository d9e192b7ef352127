"""How to train, as frozen values under TRL's names."""

"""Patches that repair nothing and want to be resolved, or to be left ungraded."""

"""Agents: the loop around a policy, its prompts and its tools."""

"""Zygote."""

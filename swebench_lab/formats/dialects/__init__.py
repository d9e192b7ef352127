"""Dialects: how agents ask models over HTTP, read into one form and answered in the dialect's own words."""

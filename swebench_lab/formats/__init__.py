"""Formats: calls in text, chat templates as token ids, and the ids of one conversation."""

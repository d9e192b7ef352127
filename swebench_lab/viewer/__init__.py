"""Viewer: attempts and collections as self-contained pages, a live board, and the notebook player."""

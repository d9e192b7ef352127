"""The syntax of languages other than Python, by tree-sitter: where code can be edited, and where its tests stand."""

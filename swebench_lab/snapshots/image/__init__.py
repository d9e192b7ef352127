"""Container images without an engine, and the trees of tasks on them."""

"""Sets whose tests run in their own images, by their own commands: their rows to Tasks."""

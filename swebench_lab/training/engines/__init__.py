"""How attempts and updates alternate: in turns, or overlapping."""

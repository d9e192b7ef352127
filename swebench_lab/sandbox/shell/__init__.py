"""Commands in a box: one at a time, and in shells that live on."""

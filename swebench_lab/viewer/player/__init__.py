"""What is looked at in a notebook: the player of attempts, alive, and what compares many of them."""

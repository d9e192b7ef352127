"""Testing: what sandboxes and policies must do, what attackers try, and what this machine can do."""

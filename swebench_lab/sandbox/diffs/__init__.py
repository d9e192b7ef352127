"""Which files a box has changed, and the patch that says so, whatever the box did to its own git."""

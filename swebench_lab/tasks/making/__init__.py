"""Tasks made from any repository: break it a little, see which tests notice, write down what a user would report."""

"""Business rules: what a shop decides beside the model, in a file that a running service reads again."""

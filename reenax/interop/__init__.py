"""Published checkpoints of other frameworks."""

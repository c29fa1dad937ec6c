"""TFDS builders, one per kind of dataset."""

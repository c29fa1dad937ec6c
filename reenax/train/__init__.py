"""The engine: loop, checkpoints, sharding, writers."""

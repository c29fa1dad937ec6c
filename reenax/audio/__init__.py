"""Sound: what short pieces of it are described by."""

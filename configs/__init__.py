"""One file per method; `get_config(name)` returns an ml_collections config."""

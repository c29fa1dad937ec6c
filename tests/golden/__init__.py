"""Numbers of the published code, and the networks here that must reproduce them."""

"""Grids, warps and other geometry on arrays."""

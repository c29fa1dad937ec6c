"""Animating and evaluating with trained methods."""

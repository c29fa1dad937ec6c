"""Benchmarks and launchers."""

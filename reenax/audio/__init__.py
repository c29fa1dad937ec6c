"""Waveform features."""

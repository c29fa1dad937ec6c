"""Offline preparation and deterministic reading of clips."""

"""Warm-up: a projector learns to caption the catalogue's own pictures."""

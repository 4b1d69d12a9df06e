"""Micrographs with known particles: specimen -> optics -> scene."""

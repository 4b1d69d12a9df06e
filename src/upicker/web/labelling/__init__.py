"""Labelling: labels on disk at every change, and proposals to begin with."""

"""Particles without labels: the Adaptive-LoG proposal generator."""

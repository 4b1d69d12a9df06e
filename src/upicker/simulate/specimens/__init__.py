"""Specimens: particles as built-in models, atomic structures or density maps, and their projections."""

"""Coordinates of other programs: one file per format or family, each knowing its program's convention."""

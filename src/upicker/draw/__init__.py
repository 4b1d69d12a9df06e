"""Pictures for people: picks over a micrograph, precision over recall, training curves.

Drawn with matplotlib's objects, without its global state, so that threads and other programs are left in peace.
"""

from upicker.draw.curves import precision_recall, training_curves
from upicker.draw.picks import overlay

__all__ = ["overlay", "precision_recall", "training_curves"]

"""UPicker: finds particles in cryo-EM micrographs, from unlabelled pictures and a few labels."""

import os

__version__ = "0.1.0"

# Threads of OpenMP, with which torch computes, wait for each other by spinning. On a processor that has something else
# to do, too, they spin for one that is not running: training with two threads beside another program took 23 times as
# long as alone. Giving up soon costs nothing alone. It is read when torch is imported, so it has to stand here.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

"""A process of a training by several, in which something happens to the second one: see `test_train_ranks`.

Started by torchrun with ``error`` or ``signal``, the number of the step at which it happens, and a command line.
"""

import os
import signal
import sys

from upicker.cli import main
from upicker.errors import UPickerError
from upicker.train import loop

what, at = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
original = loop._update_weights


def step(plan, state):
    row = original(plan, state)
    if plan.ranks.rank == 1 and state.step == at:
        if what == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            raise UPickerError("the second process", "it was made to fail")
    return row


loop._update_weights = step
main()

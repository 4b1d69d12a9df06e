"""A process that takes a lock: ``python lock_work.py PATH [force] [no-flock]``.

Waits for a line, takes the lock or says why not, and waits for another line before it lets go and ends.
"""

import errno
import fcntl
import sys
import warnings
from pathlib import Path

from upicker.errors import OutputError
from upicker.io.lock import lock


def no_flock(*_: object) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    path, words = Path(sys.argv[1]), sys.argv[2:]
    if "no-flock" in words:
        fcntl.flock = no_flock  # type: ignore[assignment]
        warnings.simplefilter("ignore")
    say("ready")
    sys.stdin.readline()
    try:
        with lock(path, "upicker test", "http://127.0.0.1:8765/", force="force" in words):
            say("held")
            sys.stdin.readline()
    except OutputError as error:
        say(error)


if __name__ == "__main__":
    main()

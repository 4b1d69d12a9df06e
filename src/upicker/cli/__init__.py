"""The command line: parses, prints, exits; nothing else.

Modules here import the other rooms inside functions, so that ``upicker --help`` is fast.
"""

from upicker.cli.app import main

__all__ = ["main"]

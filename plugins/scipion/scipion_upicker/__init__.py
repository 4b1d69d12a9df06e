"""UPicker in Scipion: the plugin, which knows where the program is."""

import os
import shlex
import shutil

import pwem
from pyworkflow.utils import Environ

from scipion_upicker.command import COMMAND_VAR

__version__ = "0.1.0"
_references = []


class Plugin(pwem.Plugin):
    """Says how the program ``upicker`` is called.

    The variable ``UPICKER_COMMAND`` holds it: the name of a program, its path, or several words.
    """

    _supportedVersions = [__version__]

    @classmethod
    def _defineVariables(cls):
        cls._defineVar(COMMAND_VAR, "upicker", description="How UPicker is called: the path of its program.")

    @classmethod
    def getEnviron(cls):
        """Return the program's environment: Scipion's, without what would mix its Python with the program's."""
        environ = Environ(os.environ)
        for name in ("PYTHONPATH", "PYTHONHOME"):
            environ.pop(name, None)
        return environ

    @classmethod
    def getCommand(cls):
        """Return how UPicker is called, as a list of words."""
        return shlex.split(cls.getVar(COMMAND_VAR) or "upicker")

    @classmethod
    def validateInstallation(cls):
        """Return complaints, none if the program is there."""
        program = cls.getCommand()[0]
        if shutil.which(program):
            return []
        return [f"There is no program '{program}': install UPicker, and set {COMMAND_VAR} to its path."]

    @classmethod
    def defineBinaries(cls, env):
        """Install nothing: UPicker lives in an environment of its own."""

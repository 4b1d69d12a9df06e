"""The protocol that picks."""

import shlex
import subprocess
from pathlib import Path

from pwem.objects import Coordinate, SetOfCoordinates
from pwem.protocols import ProtParticlePicking
from pyworkflow.object import Float
from pyworkflow.protocol import params

from scipion_upicker import Plugin, command


class UPickerProtPick(ProtParticlePicking):
    """Picks particles with UPicker's general model, or with trained weights."""

    _label = "pick"
    _possibleOutputs = {"outputCoordinates": SetOfCoordinates}

    def _defineParams(self, form):
        super()._defineParams(form)
        form.addParam(
            "inputWeights",
            params.PointerParam,
            pointerClass="EMFile",
            allowsNull=True,
            label="Trained weights",
            help="The output of 'upicker - train'; or name a file below. Without either the general model picks, "
            "which needs the diameter.",
        )
        form.addParam(
            "weightsFile",
            params.FileParam,
            allowsNull=True,
            label="or a file of weights",
            help="Such as model.safetensors.",
        )
        form.addParam(
            "boxSize",
            params.IntParam,
            default=0,
            label="Box size (px)",
            help="Side of the boxes that are drawn around particles; 0: one and a half diameters, if that is given.",
        )
        form.addParam(
            "diameter",
            params.FloatParam,
            allowsNull=True,
            label="Particle diameter (A)",
            help="Empty: the one that the weights were trained for.",
        )
        form.addParam(
            "threshold",
            params.FloatParam,
            allowsNull=True,
            label="Lowest score",
            expertLevel=params.LEVEL_ADVANCED,
            help="0 to 1. Empty: the one stored with the weights, chosen on micrographs kept aside in training.",
        )

    def _insertAllSteps(self):
        self._insertFunctionStep(self.pickStep)
        self._insertFunctionStep(self.createOutputStep)

    def pickStep(self):
        """Pick all micrographs; one that cannot be read stops none of the others."""
        micrographs = self.getInputMicrographs()
        listed = Path(self._getExtraPath("micrographs.txt"))
        command.write_list(listed, [micrograph.getFileName() for micrograph in micrographs])
        words = command.pick(
            listed,
            self._weights(),
            self._picks(),
            micrographs.getSamplingRate(),
            self.diameter.get() or None,
            self.threshold.get(),
        )
        program, *rest = Plugin.getCommand()
        try:
            self.runJob(program, shlex.join([*rest, *words]), numberOfMpi=1)
        except subprocess.CalledProcessError as error:
            if error.returncode != command.SOME_FAILED:
                raise
            self.warning("Some micrographs could not be picked; the log names them.")

    def createOutputStep(self):
        """Read the tables of picks into a set of coordinates."""
        micrographs = self.getInputMicrographs()
        coordinates = self._createSetOfCoordinates(self.getInputMicrographsPointer())
        coordinates.setBoxSize(self._boxSize())
        for micrograph in micrographs:
            for x, y, score in command.read_picks(command.table(self._picks(), micrograph.getFileName())):
                one = Coordinate(x=round(x), y=round(y))
                one.setMicrograph(micrograph)
                one._upickerScore = Float(score)
                coordinates.append(one)
        coordinates.setObjComment(self.getSummary(coordinates))
        self._defineOutputs(outputCoordinates=coordinates)
        self._defineSourceRelation(self.getInputMicrographsPointer(), coordinates)

    def getCoordsDir(self):
        """Return the folder of the tables."""
        return str(self._picks())

    def _picks(self):
        return Path(self._getExtraPath("picks"))

    def _weights(self):
        chosen = self.inputWeights.get()
        return chosen.getFileName() if chosen is not None else self.weightsFile.get() or None

    def _boxSize(self):
        pixel_size = self.getInputMicrographs().getSamplingRate()
        diameter_px = (self.diameter.get() or 0) / pixel_size
        return self.boxSize.get() or 2 * round(1.5 * diameter_px / 2) or 100

    def _validate(self):
        both = [bool(self.inputWeights.get()), bool(self.weightsFile.get())]
        wrong = ["Give trained weights, or a file of weights, but not both."] if all(both) else []
        return wrong + Plugin.validateInstallation()

"""The protocol that trains."""

import shlex
from collections import defaultdict
from pathlib import Path

from pwem.objects import EMFile
from pwem.protocols import EMProtocol
from pyworkflow.protocol import params

from scipion_upicker import Plugin, command


class UPickerProtTrain(EMProtocol):
    """Trains UPicker on the particles of a few micrographs; its weights pick all others."""

    _label = "train"
    _possibleOutputs = {"outputWeights": EMFile}

    def _defineParams(self, form):
        form.addSection(label="Input")
        form.addParam(
            "inputCoordinates",
            params.PointerParam,
            pointerClass="SetOfCoordinates",
            label="Labelled particles",
            important=True,
            help="Particles that were picked by hand, or cleaned. All good particles of a micrograph should be there; "
            "micrographs without any are left out.",
        )
        form.addParam(
            "diameter",
            params.FloatParam,
            label="Particle diameter (A)",
            validators=[params.Positive],
            help="The longest extension of the particle.",
        )
        form.addParam(
            "initWeights",
            params.FileParam,
            allowsNull=True,
            label="Weights to begin with",
            expertLevel=params.LEVEL_ADVANCED,
            help="A file of weights, such as of upicker pretrain; empty: from the start.",
        )

    def _insertAllSteps(self):
        self._insertFunctionStep(self.convertInputStep)
        self._insertFunctionStep(self.trainStep)
        self._insertFunctionStep(self.createOutputStep)

    def convertInputStep(self):
        """Write the labels, a table for each micrograph, and the list of these."""
        coordinates = self.inputCoordinates.get()
        labels = self._labels()
        labels.mkdir(parents=True, exist_ok=True)
        # All of them first: a set of Scipion's cannot be gone through twice at the same time.
        positions = defaultdict(list)
        for item in coordinates.iterItems():
            positions[item.getMicId()].append(item.getPosition())
        diameter_px = self.diameter.get() / coordinates.getMicrographs().getSamplingRate()
        listed = []
        for micrograph in coordinates.getMicrographs():
            own = positions.get(micrograph.getObjId())
            if own:
                listed.append(micrograph.getFileName())
                command.write_labels(command.table(labels, listed[-1]), own, diameter_px)
        command.write_list(self._list(), listed)

    def trainStep(self):
        """Train."""
        pixel_size = self.inputCoordinates.get().getMicrographs().getSamplingRate()
        init = self.initWeights.get() or None
        words = command.train(self._list(), self._labels(), self._weights(), self.diameter.get(), pixel_size, init)
        program, *rest = Plugin.getCommand()
        self.runJob(program, shlex.join([*rest, *words]), numberOfMpi=1)

    def createOutputStep(self):
        """Make the file of weights an output."""
        weights = EMFile(filename=str(self._weights()))
        self._defineOutputs(outputWeights=weights)
        self._defineSourceRelation(self.inputCoordinates, weights)

    def _labels(self):
        return Path(self._getExtraPath("labels"))

    def _list(self):
        return Path(self._getExtraPath("micrographs.txt"))

    def _weights(self):
        return Path(self._getExtraPath("model.safetensors"))

    def _validate(self):
        return Plugin.validateInstallation()

    def _summary(self):
        return [f"Weights: {self.outputWeights.getFileName()}"] if hasattr(self, "outputWeights") else []

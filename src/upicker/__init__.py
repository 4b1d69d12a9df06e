"""UPicker: finds particles in cryo-EM micrographs, from unlabelled pictures and a few labels."""

__version__ = "0.1.0"

"""The electron microscope: the lens, radiation damage, and the camera."""

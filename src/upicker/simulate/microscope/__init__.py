"""The electron microscope: lens, radiation damage, camera."""

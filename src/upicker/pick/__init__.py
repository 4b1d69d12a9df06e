"""A micrograph -> its particles; particles -> stacks of boxes."""

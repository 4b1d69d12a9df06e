"""A micrograph -> its particles; particles -> stacks of boxes. Only `torch_network` imports torch."""

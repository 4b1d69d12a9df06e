"""The detection transformer: tensors only. Imports torch."""

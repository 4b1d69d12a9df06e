"""One training loop for both stages: proposals as truth, then labels as truth. Imports torch."""

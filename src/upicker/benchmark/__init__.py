"""Experiments on labelled data sets: divide, train, pick, score, and set out the results in tables."""

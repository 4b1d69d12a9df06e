"""Inspecting: picks, scores, thresholds, galleries, exports."""

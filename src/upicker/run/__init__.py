"""Many micrographs: go on when one fails, count, report; the demo."""

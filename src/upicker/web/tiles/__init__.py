"""Micrographs as the browser gets them: tiles, thumbnails, boxes."""

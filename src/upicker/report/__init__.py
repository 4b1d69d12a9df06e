"""A report of picks: its figures, its images, and the HTML page."""

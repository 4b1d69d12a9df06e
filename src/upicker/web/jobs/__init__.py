"""Jobs that outlive the page: trainings, and rankings of micrographs to label next."""

"""Work that outlives the page: trainings and suggestions."""

"""What particles are made of, and their projections."""

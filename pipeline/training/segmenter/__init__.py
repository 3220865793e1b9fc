"""Training of land-cover networks."""

"""Training chips: ground, streets, traffic, look-alikes, sky and instrument."""

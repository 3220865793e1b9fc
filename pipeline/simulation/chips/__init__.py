"""What training chips are drawn from: ground, streets, traffic, look-alikes, sky and instrument."""

"""Runs as labelled images for tools and trainings of others, and the way back."""

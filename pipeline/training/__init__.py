"""Training of the models, from settings to a bundle."""

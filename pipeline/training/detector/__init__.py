"""Training of truck detectors."""

"""Simulated imagery with truth: complete products, and chips for the training of detectors."""

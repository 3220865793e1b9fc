"""Simulated imagery with truth: whole products, and the chips that detectors train on."""

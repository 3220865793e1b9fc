"""Simulated and labelled data, and the training of the shipped models."""

"""Predictions as map layers."""

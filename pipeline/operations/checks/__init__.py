"""Checks of `truckscape doctor`, one module for each area; each check is a function."""

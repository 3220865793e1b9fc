"""Sentinel-2 scenes: openers, radiometry, clouds, roads and the MSI instrument."""

"""Rasters: datasets, decoded blocks, grids, resampling, reflectance."""

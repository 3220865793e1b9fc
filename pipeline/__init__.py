"""Moving trucks and land cover from Sentinel-2 scenes, as map layers."""

__version__ = "0.1.0"

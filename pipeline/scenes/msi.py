"""The MultiSpectral Instrument: band delays, detectors and the order in which they see the bands."""

BAND_DELAYS_S = {"B02": 0.0, "B08": 0.264, "B03": 0.527, "B04": 1.005}
"""Seconds after B02 at which an odd detector sees a place; an even one sees the bands in reverse.

From the Sentinel-2 products' handbook (ESA); calibrated per satellite within 2 %.
"""

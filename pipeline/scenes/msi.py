"""The MultiSpectral Instrument: band delays, detectors and the order in which they see the bands."""

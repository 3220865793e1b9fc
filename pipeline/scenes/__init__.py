"""Pixels: scenes of any format, their metadata, and reflectance on a 10 m grid."""

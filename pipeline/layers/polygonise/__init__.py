"""Polygons of land cover: regions, outlines, simplification."""

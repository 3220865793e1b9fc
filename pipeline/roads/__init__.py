"""Roads: read, fetched, cut into segments, rasterised."""

"""Open imagery, labels and networks that recipes name: their catalogue, and how they come into a cache."""

"""Many scenes: which ones, what became of each, and how they are worked off without loss."""

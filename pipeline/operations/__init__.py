"""Many scenes: which ones, their states, and who works on them."""

"""Networks, their receptive fields and their bundles."""

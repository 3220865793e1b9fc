"""Receptive fields of any network, traced layer by layer; knows nothing of trucks."""

"""Receptive fields of any network, traced layer by layer; independent of trucks."""

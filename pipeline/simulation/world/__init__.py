"""Fictitious piece of Central Europe: its layout, its reflectance, its traffic."""

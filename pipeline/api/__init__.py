"""The public Python API, which `truckscape.py` re-exports. Imports of seconds are in its functions."""

"""Offline HTML report of a run."""

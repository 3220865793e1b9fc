"""Vector files, one format each."""

"""Scene formats, one file each."""

"""Files of labelling tools, one module a format."""

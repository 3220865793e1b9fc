"""Files and object stores: atomic writes, publishing, untrusted vector files."""

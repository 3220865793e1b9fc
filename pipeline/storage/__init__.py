"""Files and object stores: writes that appear whole, publishing, vector files of strangers."""

"""What `truckscape doctor` looks at, a module for each part of the house; each check is a function."""

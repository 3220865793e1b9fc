"""Areas by class from interpreted sample points."""

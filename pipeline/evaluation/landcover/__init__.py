"""Land cover against labels."""

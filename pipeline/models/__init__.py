"""The networks, what they can see, and how they are stored."""

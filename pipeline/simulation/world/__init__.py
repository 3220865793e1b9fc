"""A made-up piece of Central Europe: what lies where, what it reflects, what moves on it."""

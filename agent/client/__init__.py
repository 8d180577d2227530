"""A running daemon as other commands see it: where it is, how to ask it, what it answers."""

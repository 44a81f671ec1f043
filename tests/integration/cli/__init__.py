"""The command line against the whole platform, with nothing but its arguments, input and environment."""

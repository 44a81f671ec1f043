"""The command line for people and automation. It speaks HTTP only and holds no rule of its own."""

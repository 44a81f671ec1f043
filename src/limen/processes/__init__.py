"""The mains: one module for each process. The only package that composes all others."""

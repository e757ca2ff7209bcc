"""Configurations: checks, construction of objects, and one-line error messages."""

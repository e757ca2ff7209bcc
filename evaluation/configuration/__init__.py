"""Configurations: checked, built into objects, their errors told in one line."""

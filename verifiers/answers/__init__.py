"""Extraction and comparison of answers in free text."""

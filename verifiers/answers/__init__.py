"""Answers in free text: what is extracted from them, and when two are the same."""

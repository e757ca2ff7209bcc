"""Evaluation of verifiers: the quality of a signal and its value to a router."""

"""Verifiers judged: what a signal says, and what a router gains by it."""

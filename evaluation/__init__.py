"""Evaluation of policies on logs: frontiers, measures, intervals, reports, tracking."""

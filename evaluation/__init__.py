"""How good a policy is: evaluation on logs, frontiers, measures, intervals, tracking."""

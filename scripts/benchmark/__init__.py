"""Speed, measured beside peers and plain baselines in one process, as ratios."""

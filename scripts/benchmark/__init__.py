"""Benchmarks of speed, as ratios to peers and plain baselines in the same process."""

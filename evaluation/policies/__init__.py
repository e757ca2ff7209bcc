"""Policies looked at: their trees, maps, beliefs and regret."""

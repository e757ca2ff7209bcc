"""Analysis of policies: trees, maps, beliefs and regret."""

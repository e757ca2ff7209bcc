"""One run: from a configuration to results in a folder."""

"""One run: from a configuration to figures in a folder."""

"""Files: written atomically, read safely, free of secrets."""

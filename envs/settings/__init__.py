"""Settings: declared types and ranges, and the check of values against them."""

"""Settings: the types and ranges that they declare, and the one check against them."""

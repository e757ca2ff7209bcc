"""Many runs compared: tables, curves, a report."""

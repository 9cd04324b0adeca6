"""Commands that look at runs and act on them."""

"""The read model: history folded into what lists and pages show."""

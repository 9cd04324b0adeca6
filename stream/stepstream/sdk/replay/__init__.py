"""Runs the code of a function against the steps that it has recorded."""

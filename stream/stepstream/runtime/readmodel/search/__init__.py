"""Filters of runs: their syntax, and the queries that they become."""

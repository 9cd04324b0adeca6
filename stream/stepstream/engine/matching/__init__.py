"""Matching events with waits: the index, look-backs and their bounds."""

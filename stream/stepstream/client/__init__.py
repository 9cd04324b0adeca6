"""Reads live streams of an engine over HTTP, from any program."""

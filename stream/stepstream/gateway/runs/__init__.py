"""The runs of functions that apps with official SDKs execute: calls over HTTP in place of Python code."""

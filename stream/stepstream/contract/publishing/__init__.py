"""Renders the contract as JSON Schemas and samples into `topics/`."""

"""The wire contract: records, topics, identities and limits; it imports nothing of stepstream above it."""

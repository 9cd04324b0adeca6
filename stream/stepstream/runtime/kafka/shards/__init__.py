"""The log of a shard on Kafka, warm copies, and what engines know of each other."""

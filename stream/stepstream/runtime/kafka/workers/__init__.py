"""The log of a worker on Kafka: commands of its group, offsets, the lease on its partitions."""

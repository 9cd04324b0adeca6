"""What operators see of a process: metrics, logs, versions and contact with Kafka."""

"""Kafka behind the ports: what is in here alone knows aiokafka."""

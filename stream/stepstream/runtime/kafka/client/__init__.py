"""The Kafka client: settings, producers, readers, and what they repair in aiokafka."""

"""The loop of a shard and the worker, and their adapters to a log, a store and a clock."""

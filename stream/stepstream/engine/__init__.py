"""The engine: a pure, synchronous function from the tables of a shard and one record to changes."""

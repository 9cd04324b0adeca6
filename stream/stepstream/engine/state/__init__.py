"""The state of a shard: its rows, their keys, life cycles, and the changes to them."""

"""One shard: the loop that serves it, its batches and its tables."""

"""The life of a run in a worker: states, transitions, leases, slots."""

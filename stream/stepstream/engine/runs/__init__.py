"""The life of a run: admission, steps, plans, dispatch, leases and its end."""

"""Pages about runs: the list, one run, rerun, errors, bulk operations."""

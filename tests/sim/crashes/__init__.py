"""Simulation: the production loop over a log in memory, with crashes at every call of a port."""

"""The tables of the read model, and what a record of history changes in each."""

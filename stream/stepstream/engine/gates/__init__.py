"""Gates: the limits of functions on their runs, and the way of a run through them."""

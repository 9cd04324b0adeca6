"""Workers: they take commands, run the code of an app, and report each result."""

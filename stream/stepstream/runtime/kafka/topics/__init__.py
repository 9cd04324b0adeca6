"""The topics of a deployment: layout, settings, access rights, functions, and what happens when one is recreated."""

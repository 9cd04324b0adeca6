"""The steps of `ctx.step` and how code calls them."""

"""The HTTP interface: events in, runs out, and the page that shows them."""

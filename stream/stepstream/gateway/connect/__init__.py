"""Connect: apps whose workers open a WebSocket to the gateway, and get the calls of their functions over it."""

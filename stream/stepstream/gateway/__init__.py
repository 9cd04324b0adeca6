"""A worker that executes functions over HTTP, in apps that use the official Inngest SDKs."""

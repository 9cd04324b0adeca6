"""The HTTP endpoints that the Inngest SDKs and their test suites ask."""

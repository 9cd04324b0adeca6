"""The protocol of the Inngest SDKs: bytes in and out, without I/O."""

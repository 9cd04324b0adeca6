"""The apps of SDKs: how they register, where they are, and which functions they have."""

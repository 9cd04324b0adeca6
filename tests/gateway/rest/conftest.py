"""Every read model that a test here opens is closed at its end."""

from tests.fakes.indexes import closed_indexes

__all__ = ["closed_indexes"]

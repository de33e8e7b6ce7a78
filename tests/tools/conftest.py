"""Fixtures that several files of this room share."""

from tests.world.operating import operator

__all__ = ["operator"]

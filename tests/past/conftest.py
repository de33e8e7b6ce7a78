"""Fixtures that several files of this room share."""

from tests.world.time_travels import story

__all__ = ["story"]

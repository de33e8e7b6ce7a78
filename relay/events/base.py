"""What all events share."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What all events share. `TYPE` and `VERSION` stand in the log; class names do not.

    A field that the class does not know is an error: left out of a fold in silence, it would make the views a lie.
    """

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1

    personal: Any = None


class Personal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The part of an event that retention removes."""

"""How a bug is planted: a name of the relay is replaced for a while."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from unittest import mock


def _replace(stack: ExitStack, owner: Any, name: str, new: Any) -> Any:
    """Put `new` in the place of `owner.name` for as long as the stack is open; returns what was there."""
    before = getattr(owner, name)
    stack.enter_context(mock.patch.object(owner, name, new))
    return before

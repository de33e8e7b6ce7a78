"""Who leads, as it says so of itself in its lease: its name and its address, with a blank between them."""

from __future__ import annotations

from typing import NamedTuple


class Led(NamedTuple):
    name: str
    #: Where other nodes reach it.
    address: str

    def written(self) -> str:
        return f"{self.name} {self.address}"


def led_by(written: str) -> Led | None:
    """What a lease says. None: it is none of ours."""
    name, _, address = written.partition(" ")
    return Led(name, address) if name and address else None

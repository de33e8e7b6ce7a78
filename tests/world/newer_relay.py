"""The relay of a version that is still to come: `python -m tests.world.newer_relay serve DIR`, as `python -m relay`.

A send and its outcome have a next version. They say the same as before, so that either relay can do its work by them,
but the relay of today cannot read them.
"""

from __future__ import annotations

from typing import Final
from unittest import mock

from relay import codec
from relay.events import Event, MessageSent, SendAccepted

#: Type -> the version that is new.
NEWER: Final = {kind.TYPE: kind.VERSION + 1 for kind in (SendAccepted, MessageSent)}


def plant() -> None:
    kind: type[Event]
    for kind in (SendAccepted, MessageSent):
        before, name, version = kind.VERSION, kind.TYPE, NEWER[kind.TYPE]
        mock.patch.object(kind, "VERSION", version).start()
        mock.patch.object(codec, "UPCASTS", {**codec.UPCASTS, (name, before): lambda *event: event}).start()
        mock.patch.object(
            codec, "DOWNCASTS", {**codec.DOWNCASTS, (name, version): lambda *event: event}
        ).start()


if __name__ == "__main__":
    plant()
    from tools.cli import main

    main()

"""Which member holds which handle, and how its proof stands.

The invariant: **a handle has one holder at most, and a member one handle.** Both tables say the same, each from its own
side. A member that was removed holds none.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from relay.codec import Recorded
from relay.events import (
    HandleEvent,
    MemberHandleCheckFailed,
    MemberHandleLost,
    MemberHandleSet,
    MemberHandleVerified,
    MemberRemoved,
)
from spool.views import Snapshot, Transaction

#: DID -> its handle's state
_HELD = "handles"
#: handle -> the holder's DID
_HOLDERS = "handle_holders"


class HandleState(msgspec.Struct, array_like=True):
    did: str
    handle: str
    set_at: int
    #: Sequence number of its `member.handle_set`: what was found for an earlier one says nothing of this one.
    set_seq: int
    #: When both directions were first seen to be right. None: not yet.
    proved_at: int | None = None
    #: When they were last found to be right or wrong. None: not yet.
    checked_at: int | None = None
    #: Since when the checks have failed; None while they do not.
    failing_since: int | None = None
    #: What was wrong with them last.
    failed: tuple[str, ...] = ()

    @property
    def proved(self) -> bool:
        return self.proved_at is not None


_state = msgspec.msgpack.Decoder(HandleState)
_encode = msgspec.msgpack.Encoder().encode


class HandlesProjector:
    name = "handles"
    version = 1
    tables = (_HELD, _HOLDERS)
    minds = (HandleEvent, MemberRemoved)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event, time = recorded.event, recorded.time_us
        match event:
            case MemberHandleSet():
                if event.instead_of is not None:
                    _let_go(tx, event.instead_of)
                _let_go(tx, event.did)
                state = HandleState(event.did, event.handle, time, recorded.seq)
                if event.proved:
                    state.proved_at = state.checked_at = time
                _put(tx, state)
                tx.put(_HOLDERS, event.handle.encode(), event.did.encode())
            case MemberHandleVerified():
                state = _known(tx, event.did, event.handle)
                state.proved_at = state.proved_at or time
                state.checked_at = time
                state.failing_since, state.failed = None, ()
                _put(tx, state)
            case MemberHandleCheckFailed():
                state = _known(tx, event.did, event.handle)
                state.checked_at = time
                state.failing_since, state.failed = state.failing_since or time, tuple(event.failed)
                _put(tx, state)
            case MemberHandleLost() | MemberRemoved():
                _let_go(tx, event.did)
            case _:
                pass


def _put(tx: Transaction, state: HandleState) -> None:
    tx.put(_HELD, state.did.encode(), _encode(state))


def _let_go(tx: Transaction, did: str) -> None:
    state = held_by(tx, did)
    if state is not None:
        tx.delete(_HELD, did.encode())
        tx.delete(_HOLDERS, state.handle.encode())


def _known(tx: Transaction, did: str, handle: str) -> HandleState:
    state = held_by(tx, did)
    assert state is not None, f"a check of {handle}, and {did} holds no handle"
    assert state.handle == handle, f"a check of {handle}, and {did} holds {state.handle}"
    return state


def held_by(view: Snapshot, did: str) -> HandleState | None:
    """The member's handle; None: it has none."""
    value = view.get(_HELD, did.encode())
    return None if value is None else _state.decode(value)


def holder(view: Snapshot, handle: str) -> str | None:
    """The DID of who holds it, proved or not. `handle` is a host name of any kind."""
    value = view.get(_HOLDERS, handle.encode())
    return None if value is None else value.decode()


def handles(view: Snapshot) -> Iterator[HandleState]:
    """All that are held."""
    for _, value in view.scan(_HELD):
        yield _state.decode(value)

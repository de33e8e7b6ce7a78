"""Who holds which handle, told by the events alone: one holder a handle, and one handle a member."""

from __future__ import annotations

from hypothesis import given

from relay.events import HandleEvent, MemberHandleLost, MemberRemoved
from relay.views import handles
from tests.world.drafts import DIDS, HANDLES
from tests.world.histories import histories, repeatable
from tests.world.history_views import History, fold


@repeatable
@given(histories())
def test_the_holder_of_each_handle(history: History) -> None:
    held: dict[str, str] = {}
    for event in history:
        match event:
            case MemberHandleLost() | MemberRemoved():
                held.pop(event.did, None)
            case HandleEvent():
                held[event.did] = event.handle
            case _:
                pass
    assert len(set(held.values())) == len(held)
    with fold(history) as view:
        assert {state.did: state.handle for state in handles.handles(view)} == held
        for did in DIDS:
            state = handles.held_by(view, did)
            assert (None if state is None else state.handle) == held.get(did)
        holders = {handle: did for did, handle in held.items()}
        for handle in (*HANDLES, "nobody.example.com", "com"):
            assert handles.holder(view, handle) == holders.get(handle)

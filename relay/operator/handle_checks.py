"""Asks the network whose a handle is, when the operator sets one, and every day for all that are held.

Contract. `look_at` finds out for both directions (`relay.decisions.handles`) whether they are right. It never raises
for what the network says: what is neither right nor wrong for certain cannot be told. Wrong are:

    at `_atproto.<handle>` a TXT record `did=` names another DID, or several name different ones
    there is none, and `https://<handle>/.well-known/atproto-did` is not there (404 or 410), or says something
    else, or the host does not exist
    the DID does not exist (`did_exists`), or the first at:// of its document's `alsoKnownAs` is another name or none

A TXT record goes before the file. Handles and documents are strangers' to write, so all of it is fetched within the
bounds of `relay.internet.https`: public addresses only, verified TLS, a deadline, a size, no redirect.

`reverify_handles` looks at each handle CHECK_SECONDS after its last check, at the end of its grace time, and at once
where nobody has looked yet. What could not be told is asked again after RETRY_SECONDS. When that is stands in the
views, but for the last: a new start may well ask at once. It writes nothing but events. Cancelled: what was found is
not recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio

from relay.core import Core
from relay.decisions.handles import GRACE_SECONDS, Direction, HandleLook, outcome
from relay.dids import is_valid_did
from relay.domains.rounds import Rounds
from relay.domains.verification import CHECK_SECONDS, RETRY_SECONDS
from relay.events import Event, HandleEvent
from relay.handles import first_handle
from relay.internet.https import FetchError
from relay.internet.resolver import LookupFailed, NoSuchName, Resolver
from relay.operator.did_exists import Get, find_document, get_by
from relay.refusals import Refusal
from relay.times import SECOND_US
from relay.views import handles
from relay.views.handles import HandleState

logger = logging.getLogger(__name__)

#: Of what a stranger wrote, so much is repeated.
SHOWN_CHARACTERS_MAX: Final = 100
_PREFIX: Final = b"did="
#: Not found, and gone.
_ABSENT: Final = (404, 410)

# ------------------------------------------------------------------------------------------------ one look


async def look_at(core: Core, did: str, handle: str) -> HandleLook:
    """What both directions say now. Changes nothing. `did` and `handle` are in normal form."""
    resolver, get = core.surroundings.dns(), get_by(core.surroundings)
    found: dict[str, Direction] = {}

    async def look_at_the_handle() -> None:
        found["handle"] = await names_did(handle, did, resolver, get)

    async def look_at_the_document() -> None:
        found["document"] = await _document_names(core, did, handle, get)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_at_the_handle)
        nursery.start_soon(look_at_the_document)
    return HandleLook(**found)


async def _document_names(core: Core, did: str, handle: str, get: Get) -> Direction:
    try:
        document = await find_document(did, plc_directory=core.config.members.plc_directory, get=get)
    except Refusal as refusal:
        if refusal.code == "NOT_FOUND":
            return Direction(False, str(refusal))
        return Direction(None, f"the document of {did} could not be had")
    return judge_document(did, handle, first_handle(document))


def judge_document(did: str, handle: str, named: str | None) -> Direction:
    """`named`: the handle that the document names."""
    if named == handle:
        return Direction(True)
    return Direction(False, f"the document of {did} names {named or 'no handle'} as its handle")


async def names_did(handle: str, did: str, resolver: Resolver, get: Get) -> Direction:
    """Whether the handle names the DID: by its TXT record, and where it has none, by its file."""
    where, unanswered = f"_atproto.{handle}", ""
    try:
        named = _dids_in(await resolver.lookup_txt(where))
    except NoSuchName:
        named = set()
    except LookupFailed as error:
        named, unanswered = set(), f"the DNS could not tell the TXT record of {where}: {error}"
    if named:
        if named == {did}:
            return Direction(True)
        what = _shown(named.pop()) if len(named) == 1 else "several DIDs"
        return Direction(False, f"the TXT record of {where} names {what}, not {did}")
    found = await _file_names(handle, did, get)
    # A record that nobody could read would have gone before the file.
    return Direction(None, unanswered) if found.ok is False and unanswered else found


def _dids_in(records: Sequence[tuple[bytes, ...]]) -> set[str]:
    texts = [b"".join(strings) for strings in records]
    return {text[len(_PREFIX) :].decode("latin-1").strip() for text in texts if text.startswith(_PREFIX)}


async def _file_names(handle: str, did: str, get: Get) -> Direction:
    url = f"https://{handle}/.well-known/atproto-did"
    nothing = f"there is no TXT record did= at _atproto.{handle}, and"
    try:
        answer = await get(url)
    except FetchError as error:
        return Direction(False if error.no_such_host else None, f"{nothing} {error}")
    if answer.status == 200:
        text = answer.body.decode("latin-1").strip()
        if not answer.truncated and text == did:
            return Direction(True)
        what = text if is_valid_did(text) else "something that is no DID"
        return Direction(False, f"{nothing} {url} says {what}, not {did}")
    redirect = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
    return Direction(
        False if answer.status in _ABSENT else None, f"{nothing} {url} answers {answer.status}{redirect}"
    )


def _shown(text: str) -> str:
    """What a stranger wrote, in a sentence of ours."""
    return text if is_valid_did(text) else ascii(text[:SHOWN_CHARACTERS_MAX])


# ------------------------------------------------------------------------------------------------ every day


async def reverify_handles(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Look at every handle when its time has come, until cancelled. An unexpected exception ends it, and with it the
    process."""
    await _Reverifier(core).run(task_status)


class _Reverifier(Rounds[HandleState]):
    def __init__(self, core: Core) -> None:
        super().__init__(core)
        #: By the sequence number of its `member.handle_set`, not before when to ask again about what could not be told.
        self._retry_at: dict[int, int] = {}

    def _is_news(self, event: Event) -> bool:
        return isinstance(event, HandleEvent)

    async def _check(self, state: HandleState) -> None:
        look = await look_at(self._core, state.did, state.handle)
        if look.ok is None:
            self._retry_at[state.set_seq] = self._store.now_us() + RETRY_SECONDS * SECOND_US
        else:
            self._retry_at.pop(state.set_seq, None)
        recorded = await self._store.decide(lambda view: outcome(view, state, look, self._store.now_us()))
        logger.info(
            "handle.checked",
            extra={
                "handle": state.handle,
                "failed": look.failed,
                "recorded": [item.event.TYPE for item in recorded],
            },
        )

    def _held(self) -> list[HandleState]:
        with self._store.read() as view:
            return list(handles.handles(view))

    def _due_at(self, state: HandleState) -> int:
        at = state.set_at if state.checked_at is None else state.checked_at + CHECK_SECONDS * SECOND_US
        if state.failing_since is not None:
            at = min(at, state.failing_since + GRACE_SECONDS * SECOND_US)
        return max(at, self._retry_at.get(state.set_seq, 0))

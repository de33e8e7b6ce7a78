"""Asks the network whether a DID exists and for its document, at enrolment and for its handle, never in the send path.

Contract. `find_document` returns the DID's document where it was found, and else raises a `Refusal`:

    the directory, or the domain, says that there is none      NOT_FOUND, which names the DID
    it could not be told                                       TEMPORARILY_UNAVAILABLE, which names `--offline`

did:plc is asked of the PLC directory, did:web of the host that it names (`/.well-known/did.json`). A document counts
if its `id` is the DID. The document of a did:web is its host's to write, so a wrong one is an answer: the DID does not
exist. The directory's answers are about every DID, so a wrong one there says something about the directory only.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from relay.internet.https import FetchError, HttpAnswer, fetch
from relay.refusals import Refusal
from relay.surroundings import Surroundings

#: `await get(url)` is the answer to an HTTPS GET. Raises FetchError.
Get = Callable[[str], Awaitable[HttpAnswer]]

_WEB = "did:web:"
#: Not found, and gone: the directory answers so for an account that was deactivated for good.
_ABSENT = (404, 410)


def get_by(surroundings: Surroundings) -> Get:
    """The real thing, by `relay.internet.https`."""
    return partial(
        fetch,
        "GET",
        resolver=surroundings.dns(),
        open_stream=surroundings.open_stream,
        tls=surroundings.tls,
    )


async def find_document(did: str, *, plc_directory: str, get: Get) -> dict[str, Any]:
    """Raises Refusal, see the module. `did` is valid (`relay.dids`)."""
    url = document_url(did, plc_directory)
    try:
        answer = await get(url)
    except FetchError as error:
        if error.no_such_host and did.startswith(_WEB):
            raise _absent(did, str(error)) from error
        raise _untold(did, str(error)) from error
    if answer.status in _ABSENT:
        raise _absent(did, f"{url} answers {answer.status}")
    if answer.status != 200:
        redirect = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
        raise _untold(did, f"{url} answers {answer.status}{redirect}")
    document = None if answer.truncated else read_document(answer.body)
    if document is None or document.get("id") != did:
        problem = f"the document at {url} is not this DID's"
        raise _absent(did, problem) if did.startswith(_WEB) else _untold(did, problem)
    return document


def document_url(did: str, plc_directory: str) -> str:
    """Where the DID's document is."""
    if did.startswith(_WEB):
        return f"https://{did.removeprefix(_WEB)}/.well-known/did.json"
    return f"{plc_directory}/{did}"


def read_document(body: bytes) -> dict[str, Any] | None:
    """A DID document; None where it is no such thing. What its fields are is its author's word."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested without end
        return None
    return document if isinstance(document, dict) else None


def _absent(did: str, why: str) -> Refusal:
    return Refusal("NOT_FOUND", f"did: {did} does not exist: {why}")


def _untold(did: str, why: str) -> Refusal:
    return Refusal(
        "TEMPORARILY_UNAVAILABLE",
        f"did: whether {did} exists could not be told: {why}; "
        "try again later, or enrol it unchecked with `--offline`",
    )

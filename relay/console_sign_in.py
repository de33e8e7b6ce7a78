"""Signing in to the console with a DID and one of its API keys.

A *decision*, although nothing is written: of guesses the core alone knows all, by whatever edge they come. An address
has ten wrong ones in ten minutes, and then ten minutes of no answer but "wait", whether what it shows is right or not.
That is so for this machine and for a trusted proxy, too, whose own address no member's request has. (Who has a link of
the operator's gets in all the same: nobody guesses one.)
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import trio

from relay.authentication import authenticate
from relay.core import Core
from relay.dids import is_valid_did, why_no_did
from relay.lockout import LOCKED_SECONDS
from relay.principals import Stranger
from relay.refusals import Refusal
from relay.registry import Arguments, decision


class ConsoleSignIn(Arguments, frozen=True, kw_only=True):
    did: Annotated[str, msgspec.Meta(max_length=1024)]
    api_key: Annotated[str, msgspec.Meta(max_length=1024)]
    #: What whoever asks is counted under (`relay.networks.counted_as`).
    address: Annotated[str, msgspec.Meta(max_length=100)]


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """Which key it was."""

    did: str
    key_id: str


@decision(by=Stranger)
async def console_sign_in(core: Core, wanted: ConsoleSignIn, stranger: Stranger) -> SignedIn:
    """Raises Refusal: INVALID_DID, AUTH_FAILED, or RATE_LIMITED where this address has guessed too often."""
    now, guesses = trio.current_time(), core.console_guesses
    if guesses.refuses(wanted.address, now):
        raise Refusal(
            "RATE_LIMITED",
            "too many wrong sign-ins came from your address; wait ten minutes, or ask the operator for a link",
            retry_after_seconds=int(LOCKED_SECONDS),
        )
    if not is_valid_did(wanted.did):
        raise Refusal("INVALID_DID", f"did: {why_no_did(wanted.did)}")
    try:
        with core.store.read() as view:
            principal, _ = authenticate(view, core.pepper, wanted.did, wanted.api_key)
    except Refusal:
        guesses.failed(wanted.address, now, is_trusted=False)
        raise
    return SignedIn(did=principal.did, key_id=principal.key_id)

"""The core: what every layer of a running relay shares, and what the command line opens when none runs.

It owns the data directory for as long as it is open: configuration, secrets, signing keys, and the store.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from relay.config import Config, load_config
from relay.data_directory import check_may_write
from relay.dids import is_valid_did
from relay.in_hand import InHand
from relay.message.keys import KeyRing, Pepper, load_pepper
from relay.message.outgoing import Composer
from relay.metrics import Metrics
from relay.principals import Principal
from relay.refusals import Refusal
from relay.reservations import Reservations
from relay.store import Store, open_store
from relay.streams import Streams
from relay.surroundings import Surroundings
from relay.views import members


@dataclass
class Core:
    directory: Path
    surroundings: Surroundings
    config: Config
    store: Store
    pepper: Pepper
    keyring: KeyRing
    composer: Composer
    operator_stem: str
    reservations: Reservations = field(default_factory=Reservations)
    in_hand: InHand = field(default_factory=InHand)
    #: Recipient domain -> its MX hosts or route (`relay.delivery.connect`), of those that were looked up lately.
    sites: dict[str, str] = field(default_factory=dict)
    stopping: bool = False
    #: One at a time removes payloads (relay.operator.retention).
    erasing: trio.Lock = field(default_factory=trio.Lock)
    metrics: Metrics = field(init=False)
    streams: Streams = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.store)
        self.streams = Streams(self.config.http, self.surroundings.dice.randbytes)
        self.metrics.streams.set_function(lambda: self.streams.count)
        self.store.observers.append(self.streams.observe)
        self.store.observers.append(self.metrics.observe)
        self.store.observers.append(self.reservations.observe)

    def check_accepting(self) -> None:
        """Whether a send can be taken now. Raises Refusal(QUEUE_FULL or TEMPORARILY_UNAVAILABLE)."""
        if self.stopping or self.store.poisoned:
            raise unavailable()
        limits = self.config.spool
        if self.store.free_bytes() < limits.free_bytes_min:
            raise Refusal(
                "QUEUE_FULL", "the relay's disk is almost full; try again later", retry_after_seconds=60
            )
        if limits.bytes_max and self.store.log_bytes() >= limits.bytes_max:
            raise Refusal("QUEUE_FULL", "the relay's log is full; try again later", retry_after_seconds=60)

    def is_active_key(self, principal: Principal) -> bool:
        """Whether the key by which somebody was authenticated before is still good."""
        with self.store.read() as view:
            keys = members.keys_of(view, principal.did)
        return any(state.key_id == principal.key_id and state.revoked_at is None for state in keys)

    def authenticate(
        self, did: str | None, authorization: str | None
    ) -> tuple[Principal, members.MemberState]:
        """Whose request this is. Raises Refusal in the order of SPEC 1.1; suspension is for the caller to judge.

        An unknown DID, a wrong key and a revoked key are one answer, found by the same work.
        """
        key = _bearer(authorization)
        if not did or not key:
            raise Refusal(
                "AUTH_REQUIRED",
                "send your DID in the X-Atmos-DID header and your API key as `Authorization: Bearer atmos_...`",
            )
        if not is_valid_did(did):
            raise Refusal("INVALID_DID", "X-Atmos-DID: not a valid did:plc: or did:web:")
        presented = self.pepper.key_hash(key)
        with self.store.read() as view:
            member = members.member(view, did)
            keys = members.keys_of(view, did)
        matched: str | None = None
        for state in keys or [_NOBODYS_KEY]:
            same = hmac.compare_digest(state.key_hash, presented)
            if same and state.revoked_at is None:
                matched = state.key_id
        if member is None or matched is None:
            raise Refusal("AUTH_FAILED", "the DID is not known here, or the API key does not match it")
        return Principal(did, matched), member


def unavailable() -> Refusal:
    return Refusal(
        "TEMPORARILY_UNAVAILABLE",
        "the relay cannot write its log now; try again, with an Idempotency-Key to be safe from sending twice",
        retry_after_seconds=5,
    )


_NOBODYS_KEY = members.KeyState("", "0" * 64, 0)
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)


def _bearer(authorization: str | None) -> str | None:
    found = _BEARER.fullmatch(authorization or "")
    return found[1] if found else None


@asynccontextmanager
async def open_core(
    directory: Path, surroundings: Surroundings | None = None, *, restoring: bool = False
) -> AsyncIterator[Core]:
    """Open a data directory that `init` made, or `log restore`, which may do so before it has ended.

    Raises ConfigError, KeyFileError, Refusal for a backup, or an error of `spool`.
    """
    surroundings = surroundings or Surroundings()
    check_may_write(directory, restoring=restoring)
    config = load_config(directory)
    pepper = load_pepper(directory)
    keyring = KeyRing(directory)
    keyring.check()
    operator_stem = keyring.operator_stem(config.operator_domain)
    composer = Composer.of(keyring, pepper, config.operator_domain)
    async with open_store(directory, config, surroundings) as store:
        yield Core(directory, surroundings, config, store, pepper, keyring, composer, operator_stem)

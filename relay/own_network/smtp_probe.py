"""A word with an SMTP server: its banner, EHLO, STARTTLS where it is wanted, the certificate, QUIT.

Contract. `probe` ends within its seconds, reads bounded replies (`relay.delivery.reply_reader`), gives no mail, and
raises ProbeFailed with a sentence or nothing. Cancelled, or failed, the connection is closed. Certificates are looked
at and never demanded: what is wrong with one is part of the answer.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from enum import Enum
from typing import Final, NamedTuple

import trio
from cryptography import x509

from relay.delivery.certificates import describe, opportunistic_context
from relay.delivery.reply_reader import ProtocolError, ReplyReader
from relay.networks import Address, parse_address
from relay.surroundings import Surroundings
from relay.times import utc

SECONDS_MAX: Final = 20.0
_RECEIVE_BYTES: Final = 4096
#: `[203.0.113.9]`, `(203.0.113.9)`: many servers greet by the address that they see.
_ADDRESS: Final = re.compile(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7})(?![\w.:])"
)


class Tls(Enum):
    NONE = "none"
    #: By STARTTLS, where it is offered.
    OFFERED = "offered"
    #: From the first octet.
    FROM_THE_START = "from the start"


class ProbeFailed(Exception):
    """The sentence says what went wrong. `is_unreached`: no connection came about."""

    def __init__(self, sentence: str, *, is_unreached: bool = False) -> None:
        super().__init__(sentence)
        self.is_unreached = is_unreached


class Probed(NamedTuple):
    banner: str
    #: Not asked under TLS from the start.
    starttls: bool
    #: "verified", or why it proves nothing; None without TLS.
    certificate: str | None
    not_after: datetime | None
    #: How it calls us, where its answer to EHLO says so.
    seen_as: Address | None


async def probe(
    surroundings: Surroundings,
    *,
    host: str,
    address: str,
    port: int,
    ehlo_name: str,
    tls: Tls,
) -> Probed:
    """`host`: the name that the certificate should be for."""
    where = f"{address} port {port}"
    with trio.move_on_after(SECONDS_MAX):
        try:
            stream = await surroundings.open_stream(address, port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ProbeFailed(f"no connection to {where}: {reason}", is_unreached=True) from error
        dialogue = _Dialogue(stream)
        try:
            return await dialogue.run(surroundings, host, ehlo_name, tls)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            why = error.__cause__ or error
            raise ProbeFailed(f"{where}: the connection broke: {why}") from error
        except ProtocolError as error:
            raise ProbeFailed(f"{where} speaks no SMTP: {error}") from error
        finally:
            await trio.aclose_forcefully(dialogue.stream)
    raise ProbeFailed(f"no answer of {where} within {SECONDS_MAX:g} s", is_unreached=True)


class _Dialogue:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._reader = ReplyReader()

    async def run(self, surroundings: Surroundings, host: str, ehlo_name: str, tls: Tls) -> Probed:
        presented: tuple[bytes, ...] | None = None
        if tls is Tls.FROM_THE_START:
            presented = await self._handshake(host)
        banner = await self._reply(220, "its banner")
        offers = await self._ask(f"EHLO {ehlo_name}", 250)
        starttls = any(offer.strip().upper() == "STARTTLS" for offer in offers)
        if tls is Tls.OFFERED and starttls:
            await self._ask("STARTTLS", 220)
            presented = await self._handshake(host)
            await self._ask(f"EHLO {ehlo_name}", 250)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError, ProbeFailed):
            await self._ask("QUIT", 221)
        now_us = surroundings.clock()
        return Probed(
            " ".join(banner),
            starttls,
            None if presented is None else describe(presented, host, now=utc(now_us), trust=surroundings.tls),
            _not_after(presented),
            _address_in(offers[0]),
        )

    async def _ask(self, command: str, code: int) -> tuple[str, ...]:
        await self.stream.send_all(f"{command}\r\n".encode("ascii"))
        return await self._reply(code, f"its answer to {command.partition(' ')[0]}")

    async def _reply(self, wanted: int, what: str) -> tuple[str, ...]:
        while (reply := self._reader.next_reply()) is None:
            data = await self.stream.receive_some(_RECEIVE_BYTES)
            if not data:
                raise ProbeFailed(f"the server hung up instead of {what}")
            self._reader.feed(bytes(data))
        code, lines = reply
        if code != wanted:
            raise ProbeFailed(f"{what} was {code} {' '.join(lines)[:200]}")
        return lines

    async def _handshake(self, host: str) -> tuple[bytes, ...]:
        context = opportunistic_context()
        stream = trio.SSLStream(self.stream, context, server_hostname=host, https_compatible=True)
        self.stream, self._reader = stream, ReplyReader()  # nothing said in the clear counts under TLS
        await stream.do_handshake()
        return context.presented


def _not_after(presented: tuple[bytes, ...] | None) -> datetime | None:
    if not presented:
        return None
    try:
        return x509.load_der_x509_certificate(presented[0]).not_valid_after_utc
    except ValueError:
        return None


def _address_in(line: str) -> Address | None:
    for word in _ADDRESS.findall(line):
        with suppress(ValueError):
            return parse_address(word)
    return None

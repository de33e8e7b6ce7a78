"""Everything that the relay takes from the world around it: clock, disk, threads, network, DNS, dice.

`Surroundings()` is the real world. Tests give another one, in which time jumps, disks fail, receivers live in memory
and the dice have a seed; the relay cannot tell.
"""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from relay.internet.resolver import DnsResolver, Resolver
from relay.internet.tcp import OpenStream
from spool.clock import wall_clock_us
from spool.disk import Disk, RealDisk

if TYPE_CHECKING:
    from spool.replicated.table import Table


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. The defaults are RFC 5321 section 4.5.3.2's, where it has one."""

    connect: float = 30
    banner: float = 300
    greeting: float = 300
    """EHLO and HELO; the RFC names none and says that most commands are like MAIL."""
    starttls: float = 120
    """The reply to STARTTLS, and again for the handshake."""
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    data_block: float = 180
    final_dot: float = 600
    reset: float = 60
    quit: float = 10
    """Courtesy only: nothing depends on the answer."""
    last_words: float = 5
    """How long a refusal is looked for after the receiver stopped reading."""
    opening: float = 600
    """Ceiling from the banner to the last EHLO."""
    transaction: float = 1200
    """Ceiling from MAIL to the end of the body; neither the hook nor the final dot count."""


@dataclass(frozen=True)
class Surroundings:
    clock: Callable[[], int] = wall_clock_us
    disk: Disk = field(default_factory=RealDisk)
    #: `await offload(f, *args)` is f(*args), run where it may block.
    offload: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync
    open_stream: OpenStream = trio.open_tcp_stream
    #: None: as the system is configured. Made when first wanted, because it reads files.
    resolver: Resolver | None = None
    #: The database in which a relay on several machines agrees. None: as `node.toml` says.
    table: Table | None = None
    #: Whose certificates are believed (relay.internet.https). None: those that the system believes.
    tls: ssl.SSLContext | None = None
    #: API keys and the log's salts are drawn from them too: outside tests they must be the operating system's, which
    #: are what `secrets` draws from.
    dice: random.Random = field(default_factory=random.SystemRandom)
    #: What blinds payloads (relay.codec). Apart from the dice, so that it decides nothing.
    chance: Callable[[int], bytes] = os.urandom
    timeouts: Timeouts = Timeouts()

    @property
    def log_offload(self) -> Callable[..., Awaitable[Any]] | None:
        """For the log. None: threads, of which its writer has one of its own."""
        return None if self.offload is trio.to_thread.run_sync else self.offload

    def dns(self) -> Resolver:
        return self.resolver or DnsResolver()

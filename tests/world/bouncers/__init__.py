"""Mail servers that nobody here wrote, which take a mail from the relay and bounce it later: Postfix, Exim, OpenSMTPD.

    async with open_mx() as next_hop:
        with BOUNCERS["exim"](next_hop=next_hop.port, home=relay_inbound_port) as bouncer:
            ...                                  # the relay's route is bouncer.address

Each says 250 to whatever it is given on its port. Then it hands the mail on to `next_hop` (tests.world.mx), whose
magic recipients refuse it or put it off; or, where the recipient is at `FAILS`, to a local program that fails. What it
has to say of that goes to `home`, where the mail for `OPERATOR_DOMAIN` belongs.

A mail that is put off is called late after 2 s at least, and is given up after some 8.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

#: The domain whose mail goes to a program that fails.
FAILS = "fails.example"
#: What each bouncer can be made to say, by the recipient that makes it say so.
RECIPIENTS = {
    "unknown": "permfail@example.com",
    "full": "overquota@example.com",
    "policy": "blocklisted@example.com",
    "late": "tempfail-1000@example.com",
    "program": f"someone@{FAILS}",
}


class Bouncer(NamedTuple):
    name: str
    port: int
    log_file: Path

    @property
    def address(self) -> str:
        """As a route has it."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

"""Makes the files anew: a relay hands mails to each server, and a receiver takes what comes back.

REQUIRE_RECEIVERS=1 EXIM=... OPENSMTPD=... python -m tests.reports.real
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

from tests.world.bouncers import RECIPIENTS
from tests.world.bouncers.every import BOUNCERS
from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.process import RelayProcess, make_process_directory

#: A mail that waits is called late before it is given up.
KINDS = {"late": ("delayed", "expired")}


async def collect(name: str, directory: Path) -> None:
    async with open_mx() as next_hop, open_mx() as home:
        with (
            tempfile.TemporaryDirectory() as path,
            BOUNCERS[name](next_hop=next_hop.port, home=home.port) as bouncer,
        ):
            relay = RelayProcess(make_process_directory(Path(path) / "data", route=bouncer.address))
            credentials = relay.enrol()
            await trio.to_thread.run_sync(relay.start)
            try:
                for kind, recipient in RECIPIENTS.items():
                    count = len(home.messages)
                    kinds = KINDS.get(kind, (kind,))
                    async with open_http(relay.address) as http:
                        assert (await http.post_send(credentials, to=recipient)).status == 200
                    await home.wait_messages(count + len(kinds))
                    for message, said in zip(home.messages[count:], kinds, strict=True):
                        (directory / f"{name}-{said}.eml").write_bytes(message.data)
                        print(f"{name}-{said}.eml")
            finally:
                relay.kill()


async def main() -> None:
    for name in BOUNCERS:
        await collect(name, Path(__file__).parent)


if __name__ == "__main__":
    trio.run(main)

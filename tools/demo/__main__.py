"""`make demo`: the whole way of a mail on one machine, with nothing outside it.

A relay on its own data directory, a receiver as the MX for everything, a demo member, the Send API page's own
example; then a mail of a program that only knows SMTP, and one that its receiver takes and bounces a moment later. It
prints what happened and what arrived, and checks every DKIM signature. Then it sends a mail to each mailbox that the
receiver treats in its own way, says where to look at it all in a browser, and serves until Ctrl-C. With `--once` it
ends after the first three.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import trio

from relay.logs import configure_logging
from relay.operator.console import ConsoleLogin, console_login
from relay.operator.membership import DomainVerify, domain_verify
from relay.operator.membership_shown import Dns, dns
from relay.service import Relay, open_relay
from relay.surroundings import Surroundings
from tools.demo.directory import DID, DOMAIN, OPERATOR, OPERATOR_DOMAIN, Ports, enrol, prepare
from tools.demo.mailbox import Mailbox, create_page, serve_page
from tools.demo.names import DemoDns
from tools.demo.receiver import MOODS, SECONDS_MAX, Receiver, free_port
from tools.demo.reports import FeedbackProvider
from tools.demo.tour import demonstrate, demonstrate_bounce, demonstrate_submission, print_curl, send_to_moods

DIRECTORY = Path("demo-data")
HTTP_PORT = 8025
CONSOLE_PORT = 8026
MAILBOX_PORT = 8027
SUBMISSION_PORT = 2587


async def serve(
    relay: Relay, receiver: Receiver, key: str, directory: Path, mailbox_url: str, *, once: bool
) -> None:
    url = f"http://{relay.http_address}"
    print(f"The relay runs on {url}, its data in {directory}/, its MX for everything is a local receiver.\n")
    with trio.fail_after(SECONDS_MAX):
        await demonstrate(relay.core, url, key, receiver)
        await demonstrate_submission(relay.core, relay.addresses.submission[0], key, receiver)
        await demonstrate_bounce(url, key)
    print_curl(url, key)
    if not once:
        with trio.fail_after(SECONDS_MAX):
            await send_to_moods(url, key)
        print(f"\nWhat arrived stands at {mailbox_url}\n")
        await print_links(relay, directory)
        print("\nServing until Ctrl-C.")
        await trio.sleep_forever()


async def print_links(relay: Relay, directory: Path) -> None:
    """Into both consoles: each link is good once, for a minute."""
    command = f".venv/bin/atmos-relay console login {directory}"
    print("The consoles in a browser; these links are good once, for a minute:")
    for whose, did, again in (
        ("the member's", DID, f"{command} --did {DID}"),
        ("the operator's", None, command),
    ):
        answer: Any = await console_login(relay.core, ConsoleLogin(did=did), OPERATOR)
        print(f"  {whose:<16}{answer['url']}\n    another link:   {again}")


async def main(*, once: bool, directory: Path) -> None:
    mailbox = Mailbox()
    receiver = Receiver(mailbox)
    provider = FeedbackProvider(f"fbl@{OPERATOR_DOMAIN}")
    names = DemoDns()
    ports = Ports(
        http=free_port(HTTP_PORT),
        receiver=receiver.controller.port,
        submission=free_port(SUBMISSION_PORT),
        console=free_port(CONSOLE_PORT),
    )
    prepare(directory, ports)
    receiver.controller.start()
    try:
        async with open_relay(directory, Surroundings(resolver=names)) as relay:
            async with trio.open_nursery() as nursery:
                key = await enrol(relay.core)
                names.publish(await dns(relay.core, Dns(), OPERATOR), [provider.record])
                await domain_verify(relay.core, DomainVerify(did=DID, domain=DOMAIN), OPERATOR)
                nursery.start_soon(receiver.report, relay.addresses.inbound[0], provider)
                mailbox_url = await nursery.start(
                    serve_page, create_page(mailbox, MOODS), free_port(MAILBOX_PORT)
                )
                await serve(relay, receiver, key, directory, mailbox_url, once=once)
                nursery.cancel_scope.cancel()
            await relay.stop()
    finally:
        await trio.to_thread.run_sync(receiver.controller.stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the sends")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="default: %(default)s")
    options = parser.parse_args()
    configure_logging(logging.WARNING)
    try:
        trio.run(lambda: main(once=options.once, directory=options.directory))
    except* KeyboardInterrupt:
        print("Stopped. The demo's data stay; the next run goes on with them.")

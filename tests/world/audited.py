"""A small story in which everything happens that an audit can tell, the same every time, to the last byte.

A mail to nobody bounces, which its domain is told by a DSN. Then a send under an Idempotency-Key to Ann, and to a
suppressed address (rejected). Ann's mail is deferred, held by the operator and released, held again because its domain
is paused, given to a receiver that never answers, so that the relay is stopped in the middle of it (interrupted), then
sent; later she calls it spam. One thing happens at a time, so that no scheduling decides about the order.
`tests/golden_audit/` holds what `atmos-relay log audit` says of them. After a change that is meant to change that:

    python -m tests.world.audited
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio
from click.testing import CliRunner, Result
from trio.testing import wait_all_tasks_blocked

from tests.world.deterministic import UnsyncedDisk, make_seeded_directory, run_seeded
from tests.world.internet import DAY, Internet
from tests.world.mx_options import MxOptions
from tests.world.relay import open_world
from tests.world.scenario import BEGIN_US
from tools.cli import cli

GOLDEN = Path(__file__).parent.parent / "golden_audit"
DID = "did:plc:harbourharbourharbour234"
DOMAIN = "forum.example"
#: Message ids in the story.
NOBODY, DSN, ANN = 7, 10, 14
SEED = 7

_MAIL = {
    "from": f"Forum <digest@{DOMAIN}>",
    "subject": "This week in the forum",
    "text": "Hello,\nthere is news.\n",
    "html": "<p>Hello,<br>there is news.</p>",
    "category": "bulk",
}
#: What Ann's receiver does at each offer.
_ANNS_OFFERS = ("tempfail", "hang-after-dot")
_SETTINGS = "\n[warming]\ntiers = [ { until_day = 7, hour = 2, day = 10 }, { hour = 100, day = 1000 } ]\n"


def make_story(directory: Path) -> Path:
    """The data directory in which it happened."""
    internet = Internet()
    for number, domain in enumerate(("shop.example", "elsewhere.example"), 1):
        host = internet.add_host(f"mx.{domain}", f"198.41.0.{number}", MxOptions())
        host.mood = _mood
        internet.add_domain(domain, f"mx.{domain}")
    make_seeded_directory(directory, [DOMAIN], settings=_SETTINGS)

    async def main() -> None:
        world_options = {
            "internet": internet,
            "disk": UnsyncedDisk(),
            "enrol": False,
            "seed": SEED,
            "clock": lambda: BEGIN_US + round(trio.current_time() * 1_000_000),
        }
        async with open_world(directory, **world_options) as world:
            credentials = world.credentials = await world.enrol(DID, DOMAIN)
            await world.command("domain_set_forward", domain=DOMAIN, to="owner@elsewhere.example")
            await world.request("POST", "/v1/suppressions", json={"recipient": "bob@shop.example"})
            await world.post_send(**_MAIL, to="nobody@shop.example")
            await world.until(NOBODY, "bounced")
            await world.until_final(DSN)
            await trio.sleep(600)
            mail = {**_MAIL, "to": ["Ann <ann@shop.example>", "bob@shop.example"]}
            _, answer, _ = await world.request(
                "POST", "/v1/send", json=mail, headers={**credentials, "Idempotency-Key": "week 38"}
            )
            (ann,) = (accepted["messageId"] for accepted in answer["accepted"])
            await world.until(ann, "deferred")
            await world.command(
                "queue_hold", by="root", message=[ann], reason="the member asked for a moment"
            )
            await world.command("domain_pause", did=DID, domain=DOMAIN, reason="asked about a strange digest")
            await trio.sleep(7200)
            await world.command("queue_release", by="root", message=[ann], reason="the member has looked")
            await wait_all_tasks_blocked()  # and finds its domain paused
            await world.command("domain_resume", did=DID, domain=DOMAIN, reason="it was a typo")
            await wait_all_tasks_blocked()
        async with open_world(directory, **world_options) as world:
            world.credentials = credentials
            await world.until_final(ann)
            await trio.sleep(DAY)
            await world.command("complaint_record", message=ann)

    run_seeded(main, SEED)
    return directory


def _mood(address: str, offer: int) -> str:
    if address.startswith("nobody@"):
        return "permfail"
    return _ANNS_OFFERS[offer - 1] if address.startswith("ann@") and offer <= len(_ANNS_OFFERS) else ""


def tell(directory: Path, message_id: int, *options: str) -> Result:
    """What `atmos-relay log audit` prints."""
    return CliRunner().invoke(cli, ["log", "audit", str(directory), str(message_id), *options])


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="audited-") as name:
        directory = make_story(Path(name) / "data")
        for message, message_id in (("ann", ANN), ("nobody", NOBODY), ("dsn", DSN)):
            path = GOLDEN / f"{message}.txt"
            path.write_text(tell(directory, message_id).output)
            print(f"{path} is written")


if __name__ == "__main__":
    main()

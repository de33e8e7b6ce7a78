"""What goes wrong for one member or one message stays there: the relay and everybody else go on."""

from pathlib import Path

import pytest

from relay.refusals import Refusal
from tests.world.relay import OTHER_DID, OTHER_DOMAIN, open_world, run


def test_a_lost_signing_key_defers_that_domains_mail_only(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / "data"
        async with open_world(directory) as world:
            credentials = world.credentials
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
        (key,) = (directory / "keys" / OTHER_DOMAIN).glob("*r.pem")
        key.rename(tmp_path / key.name)
        async with open_world(directory, enrol=False) as world:
            world.credentials = other
            message_id = await world.send(**{"from": f"you@{OTHER_DOMAIN}"})
            deferred = await world.until(message_id, "deferred")
            assert "signing key" in deferred["lastReply"]["text"]
            assert deferred["lastReply"]["bounceClass"] == "bad_configuration"
            world.credentials = credentials
            assert (await world.until_final(await world.send()))["status"] == "sent"
            world.credentials = other
            (tmp_path / key.name).rename(key)
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_the_operators_domain_cannot_be_enrolled(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.core.store.log.last_seq
            for domain in ("relay.example", "mail.relay.example"):
                with pytest.raises(Refusal, match="the relay's own"):
                    await world.enrol(OTHER_DID, domain)
            assert world.core.store.log.last_seq == before

    run(main)


def test_the_longest_did_and_domain_fit(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            long = ".".join(["x" * 60] * 4) + ".ex"
            did, domain = f"did:web:{long}", long
            world.credentials = await world.enrol(did, domain)
            message = await world.until_final(await world.send(**{"from": f"a@{domain}"}))
            assert message["status"] == "sent"
            _, answer, _ = await world.request("GET", "/member/status")
            assert [entry["domain"] for entry in answer["domains"]] == [domain]

    run(main)


def test_a_banner_that_refuses_is_recorded_with_who_said_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", banner=b"554 5.7.1 Not you") as world:
            deferred = await world.until(await world.send(), "deferred")
            assert deferred["lastReply"]["code"] == 554
            assert deferred["lastReply"]["mx"] == "127.0.0.1"
            assert deferred["timeline"][-1]["mxAddress"] == "127.0.0.1"
            assert "sha256" not in deferred["timeline"][-1]

    run(main)

"""Who may hand mail in over SMTP, and until when."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from relay.events import SendAccepted
from relay.reception.interface import Admitted
from relay.reception.replies import WRONG_CREDENTIALS
from relay.reception.submission import Submission
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, open_world, run
from tests.world.submitting import CLIENT, MAIL, submitter


def password(world: World) -> str:
    return world.credentials["Authorization"].removeprefix("Bearer ")


def sends(world: World) -> list[SendAccepted]:
    return [event for event in world.events() if isinstance(event, SendAccepted)]


def test_the_user_may_be_the_members_handle(tmp_path: Path) -> None:
    """As the log has it, and as long as it has it."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = (await world.enrol(OTHER_DID, OTHER_DOMAIN))["Authorization"].removeprefix("Bearer ")
            door, key, handle = Submission(world.core.edge), password(world), "mira.yourdomain.com"

            async def may(user: str, given: str) -> bool:
                admitted = await door.authenticate(user, given, CLIENT)
                return isinstance(admitted, Admitted) and admitted.who.did in (DID, OTHER_DID)

            assert not await may(handle, key)
            await world.command("member_set_handle", did=DID, handle=handle, offline=True)
            status, answer, _ = await world.request("GET", "/member/status")
            assert (status, answer["handle"], answer["handle_proved"]) == (200, handle, False)
            assert [
                await may(user, key) for user in (handle, handle.upper(), f"@{handle}", f"x.{handle}")
            ] == [
                True,
                True,
                False,
                False,
            ]
            assert not await may(handle, other)
            # Whoever enrols the name as a domain shuts nobody out, and gets in with its own key only.
            await world.command("domain_add", did=OTHER_DID, domain=handle)
            assert (await may(handle, key), await may(handle, other)) == (True, True)
            await world.command("member_set_handle", did=DID, handle="")
            assert (await may(handle, key), await may(handle, other)) == (False, True)
            assert (await world.request("GET", "/member/status"))[1]["handle"] is None

    run(main)


def test_the_user_is_a_did_or_an_enrolled_domain(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            door, key = Submission(world.core.edge), password(world)
            for user in (DID, DOMAIN, DOMAIN.upper()):
                admitted = await door.authenticate(user, key, CLIENT)
                assert isinstance(admitted, Admitted)
                assert (admitted.who.did, admitted.party) == (DID, DID)
            others_key = other["Authorization"].removeprefix("Bearer ")
            for user, given in (
                (DID, others_key),
                (OTHER_DOMAIN, key),
                ("unknown.example", key),
                ("did:plc:" + "z" * 24, key),
                ("did:nobody", key),
                ("", key),
                ("no domain", key),
                (DID, ""),
                (DID, key[:-1]),
                ("x" * 5000, key),
            ):
                assert await door.authenticate(user, given, CLIENT) is WRONG_CREDENTIALS
            await world.command("member_suspend", did=DID)
            reply = await door.authenticate(DOMAIN, key, CLIENT)
            assert reply[:2] == (525, "5.7.13")
            assert await door.authenticate(DOMAIN, "wrong", CLIENT) is WRONG_CREDENTIALS

    run(main)


def test_a_connection_that_outlives_its_key_sends_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            assert (await client.hand_in()).reply.code == 250
            await world.command("member_suspend", did=DID)
            assert (await client.hand_in()).said == "525 5.7.13"
            await world.command("member_resume", did=DID)
            assert (await client.hand_in()).reply.code == 250
            key_id = client.visit.admitted.who.key_id  # type: ignore[union-attr]
            await world.command("key_revoke", did=DID, key_id=key_id)
            heard = await client.hand_in()
            assert (heard.at, heard.said) == ("MAIL", "535 5.7.8")

    run(main)


def test_who_may_no_more_while_the_message_comes_is_refused_a_repeat_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            client = await submitter(world)
            assert (await client.hand_in()).reply.code == 250
            key_id = client.visit.admitted.who.key_id  # type: ignore[union-attr]
            suspend = partial(world.command, "member_suspend", did=DID)
            revoke = partial(world.command, "key_revoke", did=DID, key_id=key_id)
            for meanwhile, said in ((suspend, "525 5.7.13"), (revoke, "535 5.7.8")):
                for mail in (MAIL, MAIL + b"Another\r\n"):
                    heard = await client.hand_in(mail, before_data=meanwhile)
                    assert (heard.at, heard.said) == ("DATA", said)
                    if meanwhile is suspend:
                        await world.command("member_resume", did=DID)
                    else:
                        break  # the next one would not get as far
            assert len(sends(world)) == 1

    run(main)

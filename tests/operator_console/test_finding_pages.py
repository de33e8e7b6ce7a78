"""The operator's questions as pages: which message, why it did not arrive, and which mails paused a domain."""

from __future__ import annotations

from pathlib import Path

from tests.operator_console.visitor import open_door
from tests.world.relay import DOMAIN, open_world, run

#: Three bounces of ten pause a domain, as `init` has it.
REPUTATION = "\n[reputation]\nmessages_min = 3\nbounces_min = 3\n"
HOSTILE = '"><img src=x onerror=alert(1)>@'


def test_a_mail_is_found_by_its_recipient_and_leads_to_what_its_receiver_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            refused = await world.send(to="refuse-message@example.com", subject="<b>Hello</b>")
            await world.until_final(refused)
            other = await world.send(to="friend@example.org")
            await world.until_final(other)
            await operator.sign_in()

            seen = await operator.get("/find?recipient=refuse-message%40example.com")
            assert f'href="/messages/{refused}"' in seen.html
            assert f'href="/messages/{other}"' not in seen.html
            assert (
                "There is no such message"
                in (await operator.get("/find?status=bounced&mx=nowhere.example")).text
            )
            page = await operator.get(f"/messages/{refused}")
            reply = (await world.message(refused))["lastReply"]
            assert f"{reply['code']} " in page.text
            assert "&lt;b&gt;Hello&lt;/b&gt;" in page.html

            # What cannot be asked is said, on the page that asks.
            for wrong in (
                "status=lost",
                "recipient=nobody",
                "since=soon",
                "after=x",
                "limit=9",
                "status=a&status=b",
            ):
                seen = await operator.get(f"/find?{wrong}")
                assert seen.alerts or seen.status == 400, wrong
                assert seen.status in (200, 400), wrong
            assert HOSTILE not in (await operator.get(f"/find?recipient={HOSTILE}")).html

            for by in ("receiver", "site", "class", "domain", "member", "provider"):
                counted = await operator.get(f"/top?by={by}&since=2d")
                assert (counted.status, counted.alerts) == (200, []), by
            assert f'href="/find?domain={DOMAIN}' in (await operator.get("/top?by=domain")).html
            assert (await operator.get("/top?by=weather")).alerts

    run(main)


def test_the_page_of_a_paused_domain_names_the_mails_that_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=REPUTATION) as world, open_door(world) as operator:
            counted = [await world.send(to=f"permfail+{number}@example.com") for number in range(3)]
            for message_id in counted:
                await world.until_final(message_id)
            await operator.sign_in()
            listed = await operator.get("/reputation")
            assert f'href="/reputation/{DOMAIN}"' in listed.html
            assert "paused bounce rate" in listed.text
            why = await operator.get(f"/reputation/{DOMAIN}")
            for message_id in counted:
                assert f'href="/messages/{message_id}"' in why.html
            assert "mail: ✓ may be sent" in why.text  # a sign and its words, which say one thing
            assert "mail: ✕ may not be sent" in why.text
            assert "<code>domain resume</code> lets it send again" in why.html
            assert "`" not in why.html

            (state,) = await world.command("domain_list")
            resumed = await operator.post(
                f"/reputation/{DOMAIN}/resume", {"did": state["did"], "reason": "talked"}
            )
            assert resumed.location == f"/reputation/{DOMAIN}?done=resumed"
            seen = await operator.get(resumed.location)
            assert "paused" not in seen.text
            assert "The domain may send again" in seen.text
            # A line that stands in an address is not one that the console says.
            assert (
                '<p class="said' not in (await operator.get(f"/reputation/{DOMAIN}?done=Send+me+money")).html
            )

    run(main)

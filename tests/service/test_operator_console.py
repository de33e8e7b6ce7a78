"""The operator's console of a real relay: on its own address, by the core although edges serve, and what only the
command line does is shown as it prints it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlencode

import trio

from relay.file_names import CONSOLE_ADDRESS_FILE
from relay.operator.client import administer
from tests.world.http import open_http
from tests.world.process import RelayProcess
from tests.world.relay import DID, DOMAIN, make_directory

SETTINGS = "\n[service]\nedges = 2\n"
PATIENCE_SECONDS = 60


def test_the_core_serves_it_beside_edges_and_pages_show_what_commands_print(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data", operator_bind="127.0.0.1:0")
    path = directory / "relay.toml"
    path.write_text(path.read_text().replace("\n[service]\n", SETTINGS))
    file = directory / CONSOLE_ADDRESS_FILE
    file.write_text("127.0.0.1:1\n")  # a killed relay left it behind

    async def visit(address: str, message_id: int, credentials: dict[str, str]) -> None:
        async with open_http(address) as http:
            headers = {"Host": address, "Sec-Fetch-Site": "same-origin"}
            link = administer(directory, "console_login", {})
            assert isinstance(link, dict)
            assert link["url"].startswith(f"http://{address}/sign-in?link=")
            form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode({"link": link["url"].partition("?link=")[2]}).encode()
            signed_in = await http.request("POST", "/sign-in", form, body)
            assert signed_in.status == 303
            headers["Cookie"] = form["Cookie"] = signed_in.headers["set-cookie"].partition(";")[0]

            async def page(path: str) -> str:
                answer = await http.request("GET", path, headers)
                assert answer.status == 200, (path, answer.body)
                return answer.body.decode()

            async def post(path: str, **fields: str) -> str:
                token = re.search(r'name="token" value="(\w+)"', await page("/log"))
                assert token is not None
                answer = await http.request(
                    "POST", path, form, urlencode({**fields, "token": token[1]}).encode()
                )
                assert answer.status in (200, 303), (path, answer.body)
                return answer.body.decode()

            first = await page("/")
            assert "accepts mail" in first
            assert '<th scope="row">edge</th>' in first
            assert f"Message {message_id}" in await page(f"/messages/{message_id}/audit")
            understood = await post("/inbound", mail="Subject: x\r\n\r\nhello")
            assert "It does not say what became of a mail" in understood
            tried = await post("/policy", config=path_of_config().read_text())
            assert "This is what it would have refused and paused" in tried
            assert "It could not be tried" in await post("/policy", config="operator_domain = 7")

            await post("/log/verify")
            with trio.fail_after(PATIENCE_SECONDS):
                while "The log and the views are whole" not in (shown := await page("/log")):
                    assert "being verified" in shown
                    await trio.sleep(0.1)

    def path_of_config() -> Path:
        return path

    with RelayProcess(directory).running() as relay:
        address = file.read_text().strip()
        assert address != "127.0.0.1:1"
        member = administer(directory, "member_add", {"did": DID, "domains": [DOMAIN], "offline": True})
        assert isinstance(member, dict)
        credentials = {"X-Atmos-DID": DID, "Authorization": f"Bearer {member['apiKey']}"}

        async def main() -> None:
            async with open_http(relay.address) as http:
                answer = await http.post_send(credentials)
                assert answer.status == 200
            (accepted,) = answer.json()["accepted"]
            await visit(address, accepted["messageId"], credentials)

        trio.run(main)
        # Edges are no way to it: the members' door knows no such page.
        assert not relay.log_lines("edge.defect")
        relay.terminate()
        assert relay.wait() == 0
    assert not file.exists()

"""HTTP/2 is for the proxy in front of the relay. Who asks the relay for it is answered in HTTP/1.1, or refused."""

from __future__ import annotations

from pathlib import Path

import trio

from relay.service import open_relay
from tests.world.http import open_http
from tests.world.process import make_process_directory

UPGRADE = {
    "Host": "relay",
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2-Settings": "AAMAAABkAAQAAP__",
}
#: What a client sends that takes it for granted (RFC 9113, 3.4), and its empty SETTINGS.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def test_an_upgrade_is_passed_over(tmp_path: Path) -> None:
    """As RFC 9110, 7.8 lets a server do; the connection goes on as it was."""

    async def main() -> None:
        make_process_directory(tmp_path / "data", route="127.0.0.1:9")
        with trio.fail_after(60):
            async with open_relay(tmp_path / "data") as relay:
                async with open_http(relay.http_address) as http:
                    for _ in range(2):
                        await http.send_head("GET", "/healthz", UPGRADE)
                        assert (await http.read_answer()).status == 200
                        await http.send_rest(b"")
                await relay.stop()

    trio.run(main)


def test_a_client_that_takes_it_for_granted_is_refused_and_cut_off(tmp_path: Path) -> None:
    async def main() -> None:
        make_process_directory(tmp_path / "data", route="127.0.0.1:9")
        with trio.fail_after(60):
            async with open_relay(tmp_path / "data") as relay:
                async with open_http(relay.http_address) as http:
                    await http.stream.send_all(PREFACE)
                    said = await http.read_to_end()
                    assert said.startswith(b"HTTP/1.1 505 "), said
                    assert said.count(b"HTTP/1.1 ") == 1, said
                async with open_http(relay.http_address) as another:
                    assert (await another.request("GET", "/healthz")).status == 200
                await relay.stop()

    trio.run(main)

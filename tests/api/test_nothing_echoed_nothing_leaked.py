"""Answers stay small whatever is sent, and a path never gets into the log, not even by a way that leads nowhere."""

import json
from pathlib import Path

import trio

from relay.config_doors import HttpConfig
from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.process import RelayProcess, make_process_directory
from tests.world.relay import open_world, run

BODY_BYTES_MAX = HttpConfig().send_bytes_max

MAIL = {"from": "you@yourdomain.com", "to": "friend@example.com", "subject": "Hello", "text": "Hi"}


def test_an_error_is_small_whatever_it_is_about(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            long = "x" * 900_000
            for mail in ({**MAIL, long: 1}, {**MAIL, "category": long}, {**MAIL, "to": long}):
                status, answer, _ = await world.request("POST", "/v1/send", json=mail)
                assert status == 400
                assert len(json.dumps(answer)) < 16_384
            body = b"x" * (BODY_BYTES_MAX + 1)
            assert (await world.request("POST", "/v1/send", data=body))[0] == 413
            metrics = (await (await world.client.get("/metrics")).get_data()).decode()
            assert 'atmos_sends_refused_total{code="PAYLOAD_TOO_LARGE"} 1.0' in metrics

    run(main)


def test_a_websocket_where_there_is_none_is_a_json_404_and_nothing_is_logged(tmp_path: Path) -> None:
    upgrade = {
        "Host": "relay",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }

    async def main() -> None:
        async with open_mx() as mx:
            relay = RelayProcess(make_process_directory(tmp_path / "data", route=mx.address))
            with relay.running(), trio.fail_after(60):
                for path in ("/u/SECRETTOKEN", "/v1/suppressions/alice@private.example"):
                    async with open_http(relay.address) as http:
                        await http.send_head("GET", path, upgrade)
                        answer = await http.read_answer()
                        assert (answer.status, answer.code) == (404, "NOT_FOUND")
                assert "SECRETTOKEN" not in relay.output
                assert "private" not in relay.output

    trio.run(main)

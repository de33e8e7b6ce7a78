"""Requests that are too large, over real TCP: refused while they are read, in bounded memory, and the client gets to
read why."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import trio

from relay.config_doors import HttpConfig
from tests.world.http import Answer, HttpConnection, open_http
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory

BODY_BYTES_MAX = HttpConfig().send_bytes_max

#: Whether a client sees the answer could be a race: once is not enough to see it lost.
REPEATED = 5
#: Where nothing listens: nothing is delivered here.
NOWHERE = "127.0.0.1:9"

#: Valid but for its size: what refuses it can only be the limit.
TOO_LARGE = b'{"from":"%s"}' % (b"x" * (BODY_BYTES_MAX + 1 - len('{"from":""}')))
assert len(TOO_LARGE) == BODY_BYTES_MAX + 1


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    directory = make_process_directory(tmp_path_factory.mktemp("relay") / "data", route=NOWHERE)
    with RelayProcess(directory).running() as relay:
        yield relay
        assert relay.stop() == 0


@pytest.fixture(scope="module")
def credentials(relay: RelayProcess) -> dict[str, str]:
    return relay.enrol()


def pieces(body: bytes) -> Iterator[bytes]:
    """In a generator, requests sends it chunked."""
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_requests_reads_why_one_byte_too_many_is_refused(
    relay: RelayProcess, credentials: dict[str, str], chunked: bool
) -> None:
    for _ in range(REPEATED):
        answer = requests.post(
            f"http://{relay.address}/v1/send",
            data=pieces(TOO_LARGE) if chunked else TOO_LARGE,
            headers={**credentials, "Content-Type": "application/json"},
            timeout=PATIENCE_SECONDS,
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "how", [[], ["Expect:"], ["Expect:", "Transfer-Encoding: chunked"]], ids=["asks", "length", "chunked"]
)
def test_curl_reads_why_one_byte_too_many_is_refused(
    relay: RelayProcess, credentials: dict[str, str], how: list[str], tmp_path: Path
) -> None:
    """curl asks first (`Expect: 100-continue`) where it is not told not to."""
    (tmp_path / "body").write_bytes(TOO_LARGE)
    headers = [f"{name}: {value}" for name, value in credentials.items()]
    options = [
        option for header in ("Content-Type: application/json", *headers, *how) for option in ("-H", header)
    ]
    url = f"http://{relay.address}/v1/send"
    for _ in range(REPEATED):
        done = subprocess.run(
            [
                "curl",
                "-sS",
                "-w",
                "%{stderr}%{http_code}",
                "--data-binary",
                f"@{tmp_path / 'body'}",
                *options,
                url,
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert (done.returncode, done.stderr) == (0, "413")
        assert json.loads(done.stdout)["code"] == "PAYLOAD_TOO_LARGE"


def test_the_largest_body_that_is_legal_is_accepted(relay: RelayProcess, credentials: dict[str, str]) -> None:
    mail = {"from": "you@yourdomain.com", "to": "friend@example.com", "subject": "Large", "text": ""}
    mail["text"] = "x" * (BODY_BYTES_MAX - len(json.dumps(mail)))
    body = json.dumps(mail).encode()
    assert len(body) == BODY_BYTES_MAX
    answer = requests.post(
        f"http://{relay.address}/v1/send",
        data=body,
        headers={**credentials, "Content-Type": "application/json"},
        timeout=PATIENCE_SECONDS,
    )
    assert answer.status_code == 200, answer.text


def test_fifty_megabytes_do_not_fill_the_memory(relay: RelayProcess, credentials: dict[str, str]) -> None:
    """Ten clients stream on, whatever they are answered: what comes is dropped, not kept."""
    size, clients = 50_000_000, 10
    before = relay.memory_peak_bytes()

    async def client() -> Answer:
        async with open_http(relay.address) as http:
            answer: list[Answer] = []

            async def read() -> None:
                answer.append(await http.read_answer())

            lines = {"Host": "relay", "Transfer-Encoding": "chunked", "Content-Type": "application/json"}
            await http.send_head("POST", "/v1/send", {**lines, **credentials})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await stream_until_closed(http, size)
            return answer[0]

    async def main() -> list[Answer]:
        answers: list[Answer] = []

        async def one() -> None:
            answers.append(await client())

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(clients):
                    nursery.start_soon(one)
        return answers

    answers = trio.run(main)
    assert [(answer.status, answer.code) for answer in answers] == [(413, "PAYLOAD_TOO_LARGE")] * clients
    # Each may have its 1 MiB, and copies of it on the way.
    assert relay.memory_peak_bytes() - before < clients * 4 * BODY_BYTES_MAX


async def stream_until_closed(http: HttpConnection, size: int) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with suppress(trio.BrokenResourceError):  # the relay has had enough
        for _ in range(size // 0x10000):
            await http.stream.send_all(chunk)


@pytest.mark.parametrize("where", ["a header", "many headers", "the path"])
def test_a_head_without_end_is_refused(relay: RelayProcess, where: str) -> None:
    head = {
        "a header": b"GET /healthz HTTP/1.1\r\nHost: relay\r\nX-Long: " + b"x" * 100_000,
        "many headers": b"GET /healthz HTTP/1.1\r\nHost: relay\r\n" + b"X-More: x\r\n" * 10_000,
        "the path": b"GET /" + b"x" * 100_000,
    }[where]

    async def main() -> Answer:
        with trio.fail_after(60):
            async with open_http(relay.address) as http:
                with suppress(trio.BrokenResourceError):
                    await http.stream.send_all(head)
                answer = await http.read_answer()
                await http.read_to_end()
                return answer

    assert trio.run(main).status == 431


def test_the_relay_is_well_after_all_that(relay: RelayProcess, credentials: dict[str, str]) -> None:
    """Nothing of what was refused has been kept, and nothing went wrong that nobody saw."""
    refused = requests.post(
        f"http://{relay.address}/v1/send", data=TOO_LARGE, headers=credentials, timeout=PATIENCE_SECONDS
    )
    assert refused.status_code == 413
    ready = requests.get(f"http://{relay.address}/readyz", timeout=PATIENCE_SECONDS)
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    listed = requests.get(
        f"http://{relay.address}/v1/messages", headers=credentials, timeout=PATIENCE_SECONDS
    ).json()
    assert {message["subject"] for message in listed["messages"]} <= {"Large"}
    assert relay.log_lines("http.defect") == []

"""Whether a DID exists is asked at enrolment: of a directory and hosts that answer, refuse, lie or are not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.config import ConfigError, parse_config
from relay.core import open_core
from relay.internet.https import FetchLimits
from relay.operator.did_exists import document_url, read_document
from relay.refusals import Refusal
from relay.surroundings import Surroundings
from relay.views import members
from tests.world.dns import FakeDns
from tests.world.https import Authority, Outside, Stream, open_https_server
from tests.world.orders import order
from tests.world.relay import DOMAIN, make_directory

PLC, WEB = "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:pds.example"
DIRECTORY, HOST = "plc.directory", "pds.example"
PUBLIC = "93.184.215.14"

AUTHORITY = Authority()
SERVER = AUTHORITY.certificate(DIRECTORY, HOST, "mirror.example")


def document(did: str) -> bytes:
    return json.dumps({"@context": ["https://www.w3.org/ns/did/v1"], "id": did}).encode()


class Enrolment:
    """An attempt to enrol a member, with a world of one HTTPS server that gives one answer to everything."""

    def __init__(
        self,
        directory: Path,
        did: str,
        *,
        status: int = 200,
        body: bytes = b"",
        dns: FakeDns | None = None,
        settings: str = "",
        offline: bool = False,
    ) -> None:
        self.requests: list[str] = []
        self.refusal: Refusal | None = None
        self.enrolled: Any = None

        async def handle(stream: Stream, request: bytes) -> None:
            head = request.decode()
            host = next(line[6:] for line in head.split("\r\n") if line.startswith("Host: "))
            self.requests.append(f"{host}{head.split(' ')[1]}")
            await stream.send_all(
                b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
            )

        async def main() -> None:
            async with open_https_server(SERVER, handle) as port:
                addresses = {name: [PUBLIC] for name in (DIRECTORY, HOST, "mirror.example")}
                surroundings = Surroundings(
                    resolver=dns or FakeDns(addresses=addresses),
                    open_stream=Outside(port).open_stream,
                    tls=AUTHORITY.trust,
                )
                async with open_core(make_directory(directory, settings), surroundings) as core:
                    try:
                        await order(core, "member_add", did=did, domains=[DOMAIN], offline=offline)
                    except Refusal as refusal:
                        self.refusal = refusal
                    with core.store.read() as view:
                        self.enrolled = members.member(view, did)

        trio.run(main)
        # Refused or enrolled, and nothing in between.
        assert (self.refusal is None) == (self.enrolled is not None)

    @property
    def code(self) -> str | None:
        return None if self.refusal is None else self.refusal.code


@pytest.mark.parametrize(
    ("did", "asked"),
    [(PLC, f"plc.directory/{PLC}"), (WEB, "pds.example/.well-known/did.json")],
)
def test_a_did_with_a_document_exists(tmp_path: Path, did: str, asked: str) -> None:
    enrolment = Enrolment(tmp_path / "data", did, body=document(did))
    assert enrolment.code is None
    assert enrolment.requests == [asked]


@pytest.mark.parametrize("did", [PLC, WEB])
@pytest.mark.parametrize("status", [404, 410])
def test_a_did_without_a_document_does_not_exist(tmp_path: Path, did: str, status: int) -> None:
    enrolment = Enrolment(tmp_path / "data", did, status=status, body=b'{"message":"DID not registered"}')
    assert enrolment.code == "NOT_FOUND"
    assert f"{did} does not exist" in str(enrolment.refusal)


WRONG_DOCUMENTS = {
    "another's": document("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"),
    "other case": document(WEB.upper()),
    "no id": b"{}",
    "id is no string": b'{"id": ["did:web:pds.example"]}',
    "a list": b"[]",
    "a page": b"<!doctype html><title>Welcome</title>",
    "not UTF-8": b'{"id": "\xff"}',
    "nothing": b"",
    "a tower": b"[" * 50_000,
    "too long": document(WEB) + b" " * FetchLimits().body_bytes_max,
}


@pytest.mark.parametrize("wrong", WRONG_DOCUMENTS)
def test_a_host_that_has_another_document_has_no_such_did(tmp_path: Path, wrong: str) -> None:
    enrolment = Enrolment(tmp_path / "data", WEB, body=WRONG_DOCUMENTS[wrong])
    assert enrolment.code == "NOT_FOUND"
    assert WEB in str(enrolment.refusal)


@pytest.mark.parametrize("wrong", WRONG_DOCUMENTS)
def test_a_directory_that_answers_nonsense_has_told_nothing(tmp_path: Path, wrong: str) -> None:
    enrolment = Enrolment(tmp_path / "data", PLC, body=WRONG_DOCUMENTS[wrong])
    assert enrolment.code == "TEMPORARILY_UNAVAILABLE"


@pytest.mark.parametrize("did", [PLC, WEB])
@pytest.mark.parametrize("status", [204, 301, 302, 401, 403, 429, 500, 503])
def test_any_other_answer_tells_nothing_and_names_the_way_out(tmp_path: Path, did: str, status: int) -> None:
    enrolment = Enrolment(tmp_path / "data", did, status=status, body=b"")
    assert enrolment.code == "TEMPORARILY_UNAVAILABLE"
    assert "--offline" in str(enrolment.refusal)
    assert did in str(enrolment.refusal)
    assert len(enrolment.requests) == 1  # no redirect is followed


@pytest.mark.parametrize(
    ("did", "dns", "code"),
    [
        # The host of a did:web that does not exist has no documents. The directory exists, whatever the DNS says.
        (WEB, FakeDns(), "NOT_FOUND"),
        (PLC, FakeDns(), "TEMPORARILY_UNAVAILABLE"),
        (WEB, FakeDns(broken={HOST}), "TEMPORARILY_UNAVAILABLE"),
        (PLC, FakeDns(broken={DIRECTORY}), "TEMPORARILY_UNAVAILABLE"),
        (WEB, FakeDns(addresses={HOST: ["127.0.0.1"]}), "TEMPORARILY_UNAVAILABLE"),
        (WEB, FakeDns(addresses={HOST: [PUBLIC, "10.0.0.1"]}), "TEMPORARILY_UNAVAILABLE"),
        (WEB, FakeDns(addresses={HOST: []}), "TEMPORARILY_UNAVAILABLE"),
    ],
)
def test_a_host_that_cannot_be_asked(tmp_path: Path, did: str, dns: FakeDns, code: str) -> None:
    enrolment = Enrolment(tmp_path / "data", did, body=document(did), dns=dns)
    assert enrolment.code == code
    assert enrolment.requests == []


def test_offline_asks_nobody(tmp_path: Path) -> None:
    dns = FakeDns()
    enrolment = Enrolment(tmp_path / "data", PLC, dns=dns, offline=True)
    assert enrolment.code is None
    assert dns.asked == []


@pytest.mark.parametrize(
    "did", ["did:plc:short", "did:web:localhost", "did:web:host.example:user", "did:key:z6Mk"]
)
def test_what_is_no_did_is_asked_of_nobody(tmp_path: Path, did: str) -> None:
    enrolment = Enrolment(tmp_path / "data", did, body=document(did))
    assert enrolment.code == "INVALID_DID"
    assert enrolment.requests == []


def test_another_directory_may_be_asked(tmp_path: Path) -> None:
    settings = 'plc_directory = "https://mirror.example"\n'  # [members] is the file's last table
    enrolment = Enrolment(tmp_path / "data", PLC, body=document(PLC), settings=settings)
    assert enrolment.code is None
    assert enrolment.requests == [f"mirror.example/{PLC}"]


@pytest.mark.parametrize(
    "value",
    ["http://plc.directory", "https://plc.directory/", "https://plc.directory/api", "plc.directory", ""],
)
def test_a_directory_that_could_not_be_asked_is_refused_at_start(value: str) -> None:
    text = 'operator_domain = "relay.example"\npublic_url = "https://relay.example"\n[members]\n'
    with pytest.raises(ConfigError, match=r"line 4: members\.plc_directory: expected https://HOST"):
        parse_config(f'{text}plc_directory = "{value}"\n')


def test_where_a_document_is() -> None:
    assert document_url(PLC, "https://plc.directory") == f"https://plc.directory/{PLC}"
    assert document_url(WEB, "https://plc.directory") == "https://pds.example/.well-known/did.json"


def test_a_document_is_an_object() -> None:
    assert read_document(document(PLC)) == {"@context": ["https://www.w3.org/ns/did/v1"], "id": PLC}
    assert read_document(b'{"id": null}') == {"id": None}
    assert read_document(b'["id"]') is None

"""By what nodes know each other: who is taken, who is not, and what is on the disk."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from relay.config_nodes import is_node_name
from relay.message.key_files import KeyFileError
from relay.nodes.certificates import (
    CA_DAYS,
    NODE_DAYS,
    NodeCertificates,
    authority,
    found,
    host_of,
    identity_of,
    install,
    install_own,
    made_for,
    name_in,
)
from tests.world.self_signed import self_signed_context

NOW = datetime.now(UTC)


def node(directory: Path, name: str, of: Path | None = None, now: datetime = NOW) -> NodeCertificates:
    """A node of its own directory, which has the authority of another one's, or its own."""
    directory.mkdir()
    if of is None:
        found(directory, NOW)
    else:
        install(directory, authority(of))
    return NodeCertificates(directory, name, now)


async def names_after_handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, wanted: str
) -> tuple[str | None, str | None]:
    """As whom each sees the other. Raises BrokenResourceError where one side does not take the other."""
    ours, theirs = memory_stream_pair()
    serving = trio.SSLStream(theirs, server, server_side=True)
    asking = trio.SSLStream(ours, client, server_hostname=host_of(wanted))
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await serving.do_handshake()
            assert await serving.receive_some(1) == b"?"
            await serving.send_all(b"!")

        nursery.start_soon(serve)
        await asking.do_handshake()
        await asking.send_all(b"?")
        assert await asking.receive_some(1) == b"!"
    return name_in(serving.getpeercert()), name_in(asking.getpeercert())


def refused(test: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(test, *arguments)
    causes = []
    for error in caught.value.exceptions:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, trio.BrokenResourceError), error
        causes.append(str(error.__cause__))
    return " ".join(causes)


def test_two_nodes_know_each_other_by_name(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a")
    b = node(tmp_path / "b", "b-2", of=tmp_path / "a")
    assert trio.run(names_after_handshake, a.for_server(), b.for_client(), "a") == ("b-2", "a")
    assert trio.run(names_after_handshake, b.for_server(), a.for_client(), "b-2") == ("a", "b-2")


def test_another_node_than_was_expected_is_refused(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a")
    b = node(tmp_path / "b", "b", of=tmp_path / "a")
    assert "Hostname mismatch" in refused(names_after_handshake, b.for_server(), a.for_client(), "c")


def test_nodes_of_another_relay_are_refused_by_either_side(tmp_path: Path) -> None:
    a, stranger = node(tmp_path / "a", "a"), node(tmp_path / "stranger", "a")
    assert "verify failed" in refused(names_after_handshake, a.for_server(), stranger.for_client(), "a")
    assert "verify failed" in refused(names_after_handshake, stranger.for_server(), a.for_client(), "a")


def test_who_shows_no_certificate_is_refused(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a")
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    refused(names_after_handshake, a.for_server(), nobody, "a")


def test_what_anybody_can_make_is_refused(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a")
    made = self_signed_context(host_of("a"))
    assert "verify failed" in refused(names_after_handshake, made, a.for_client(), "a")


def test_nothing_older_than_tls_1_3_is_spoken(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a")
    old = a.for_client()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    refused(names_after_handshake, a.for_server(), old, "a")


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    node(tmp_path / "a", "a")
    directory = tmp_path / "a" / "node"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {
        "ca.pem": 0o600,
        "own.pem": 0o600,
    }
    (directory / "own.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match="others than its owner"):
        NodeCertificates(tmp_path / "a", "a", NOW)


def test_there_is_one_authority_and_it_is_not_written_over(tmp_path: Path) -> None:
    node(tmp_path / "a", "a")
    before = authority(tmp_path / "a")
    with pytest.raises(KeyFileError, match="exists already"):
        found(tmp_path / "a", NOW)
    assert authority(tmp_path / "a") == before


def test_without_an_authority_there_are_no_certificates(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"ca\.pem: is missing; `atmos-relay node found DIR` makes it"):
        NodeCertificates(tmp_path, "a", NOW)


@pytest.mark.parametrize("what", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\xff\x00"])
def test_what_is_no_authority_is_not_kept(tmp_path: Path, what: bytes) -> None:
    with pytest.raises(KeyFileError):
        install(tmp_path, what)
    assert not (tmp_path / "node").exists()


def test_a_key_of_one_and_a_certificate_of_another_are_not_kept(tmp_path: Path) -> None:
    node(tmp_path / "a", "a")
    node(tmp_path / "b", "b")
    key, _, _ = authority(tmp_path / "a").partition(b"-----BEGIN CERTIFICATE")
    _, mark, certificate = authority(tmp_path / "b").partition(b"-----BEGIN CERTIFICATE")
    (tmp_path / "c").mkdir()
    with pytest.raises(KeyFileError, match="do not belong together"):
        install(tmp_path / "c", key + mark + certificate)


# ------------------------------------------------------------------------------------------------ time


def test_a_certificate_stays_while_it_is_good(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a")
    before = (tmp_path / "a" / "node" / "own.pem").read_bytes()
    assert a.renew(NOW + timedelta(days=NODE_DAYS // 2)) is False
    again = NodeCertificates(tmp_path / "a", "a", NOW)
    assert (tmp_path / "a" / "node" / "own.pem").read_bytes() == before
    assert again.not_after == a.not_after


def test_it_is_renewed_at_a_start(tmp_path: Path) -> None:
    before = node(tmp_path / "a", "a", now=NOW - timedelta(days=300))
    assert NodeCertificates(tmp_path / "a", "a", NOW).not_after > before.not_after


def test_where_it_cannot_be_renewed_the_old_one_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    a = node(tmp_path / "a", "a", now=NOW - timedelta(days=300))
    b = node(tmp_path / "b", "b", of=tmp_path / "a")
    with monkeypatch.context() as planted:
        planted.setattr("relay.nodes.certificates.os.replace", full)
        assert a.renew(NOW) is False
    assert [record for record in caplog.records if record.message == "node.certificate_not_renewed"]
    assert trio.run(names_after_handshake, a.for_server(), b.for_client(), "a") == ("b", "a")
    assert a.renew(NOW) is True


def test_it_is_renewed_before_its_end_and_the_others_take_it(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a", now=NOW - timedelta(days=300))
    b = node(tmp_path / "b", "b", of=tmp_path / "a")
    old = a.for_server()
    assert a.renew(NOW) is True
    assert a.for_server() is not old
    assert a.not_after > NOW + timedelta(days=NODE_DAYS - 1)
    assert trio.run(names_after_handshake, a.for_server(), b.for_client(), "a") == ("b", "a")
    # What was shown before is still good, too.
    assert trio.run(names_after_handshake, old, b.for_client(), "a") == ("b", "a")


def test_one_that_has_expired_is_refused(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a", now=NOW - timedelta(days=NODE_DAYS + 1))
    b = node(tmp_path / "b", "b", of=tmp_path / "a")
    assert "expired" in refused(names_after_handshake, a.for_server(), b.for_client(), "a")


def test_its_key_stays_when_its_certificate_is_renewed(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a", now=NOW - timedelta(days=300))
    identity = a.identity
    assert a.renew(NOW) is True
    assert a.identity == identity == identity_of((tmp_path / "a" / "node" / "own.pem").read_bytes())
    assert len(identity) == 32
    # Called otherwise it is another node.
    assert NodeCertificates(tmp_path / "a", "c", NOW).identity != identity


def test_what_another_node_has_made_for_it(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a")
    made = made_for(tmp_path / "a", "b", NOW)
    (tmp_path / "b").mkdir()
    install(tmp_path / "b", authority(tmp_path / "a"))
    install_own(tmp_path / "b", made)
    install_own(tmp_path / "b", made)
    b = NodeCertificates(tmp_path / "b", "b", NOW)
    assert b.identity == identity_of(made) != a.identity
    assert trio.run(names_after_handshake, a.for_server(), b.for_client(), "a") == ("b", "a")
    with pytest.raises(KeyFileError):
        install_own(tmp_path / "b", b"x")


def test_a_node_that_is_called_otherwise_now_gets_another(tmp_path: Path) -> None:
    node(tmp_path / "a", "a")
    b = node(tmp_path / "b", "b", of=tmp_path / "a")
    renamed = NodeCertificates(tmp_path / "a", "c", NOW)
    assert trio.run(names_after_handshake, renamed.for_server(), b.for_client(), "c") == ("b", "c")


def test_one_of_another_authority_is_replaced(tmp_path: Path) -> None:
    """A node that was given another authority by hand."""
    node(tmp_path / "a", "a")
    b = node(tmp_path / "b", "b")
    (tmp_path / "a" / "node" / "ca.pem").unlink()
    install(tmp_path / "a", authority(tmp_path / "b"))
    identity = identity_of((tmp_path / "a" / "node" / "own.pem").read_bytes())
    a = NodeCertificates(tmp_path / "a", "a", NOW)
    assert a.identity == identity
    assert trio.run(names_after_handshake, a.for_server(), b.for_client(), "a") == ("b", "a")


def test_what_was_left_half_made_is_made_anew(tmp_path: Path) -> None:
    before = node(tmp_path / "a", "a", now=NOW - timedelta(days=300))
    (tmp_path / "a" / "node" / "own.pem.new").write_bytes(b"killed while it was writ")
    assert NodeCertificates(tmp_path / "a", "a", NOW).not_after > before.not_after
    assert not (tmp_path / "a" / "node" / "own.pem.new").exists()


def test_the_authority_is_good_for_ten_years(tmp_path: Path) -> None:
    a = node(tmp_path / "a", "a")
    at_the_end = NOW + timedelta(days=CA_DAYS - 1)
    assert a.renew(at_the_end) is True
    assert a._authority.not_valid_after_utc > at_the_end


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True),
        ("mail-1", True),
        ("A", False),
        ("", False),
        ("a.b", False),
        ("-a", False),
        ("a" * 33, False),
    ],
)
def test_names_of_nodes(name: str, good: bool) -> None:
    assert bool(is_node_name(name)) is good


@pytest.mark.parametrize(
    "shown",
    [
        None,
        {},
        {"subjectAltName": (("DNS", "a.node.invalid"), ("DNS", "b.node.invalid"))},
        {"subjectAltName": (("DNS", "a.example"),)},
        {"subjectAltName": (("DNS", "a.b.node.invalid"),)},
        {"subjectAltName": (("URI", "a.node.invalid"),)},
    ],
)
def test_what_names_no_node(shown: object) -> None:
    assert name_in(shown) is None

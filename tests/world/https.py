"""A certificate authority made for a test, and HTTPS servers whose every byte the test decides.

    authority = Authority()
    async with open_https_server(authority.certificate("host.example"), handler) as port: ...

A handler is given the TLS stream after the handshake and the bytes of the request, head and body, and answers with
whatever bytes it likes. `Outside(port).open_stream` takes every address of the outside world for this server: the
client believes that it talks to that address, and no packet leaves the machine.
"""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Stream: TypeAlias = trio.abc.Stream
Handler = Callable[[Stream, bytes], Awaitable[None]]

#: Valid for as long as anybody will run these tests.
_FROM, _TO = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


class Authority:
    """Issues certificates, and `trust` believes them."""

    def __init__(self, issuer: Authority | None = None) -> None:
        """`issuer`: who vouches for this one, which is then an intermediate authority; None: itself."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"A test's authority {id(self)}")])
        by = issuer or self
        self._own = (
            by._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by._key.public_key()), critical=False
            )
            .add_extension(_usage(certificates=True), critical=True)
            .sign(by._key, hashes.SHA256())
        )
        self._chain: list[x509.Certificate] = [] if issuer is None else [self._own, *issuer._chain]
        """What a server shows beside its own certificate. The root is known already."""
        self.trust = ssl.create_default_context(cadata=self._own.public_bytes(_PEM).decode())

    def certificate(self, *names: str, expired: bool = False, chain: bool = True) -> ssl.SSLContext:
        """The server's side of TLS, with a certificate for host names and IP addresses.

        `chain`: with the intermediate authorities that lead to it.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(key, *names, expired=expired)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as directory:  # the ssl module takes files only
            path = Path(directory) / "chain.pem"
            path.write_bytes(
                key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
                + b"".join(one.public_bytes(_PEM) for one in [certificate, *(self._chain if chain else [])])
            )
            context.load_cert_chain(path)
        return context

    def der(self, *names: str) -> bytes:
        """A certificate alone."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._issue(key, *names).public_bytes(serialization.Encoding.DER)

    def _issue(self, key: ec.EllipticCurvePrivateKey, *names: str, expired: bool = False) -> x509.Certificate:
        return (
            self._builder(x509.Name([]), key, expired=expired)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(_usage(certificates=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool = False
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FROM)
            .not_valid_after(datetime(2020, 2, 1, tzinfo=UTC) if expired else _TO)
        )


_PEM = serialization.Encoding.PEM


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


async def serve_https(transport: Stream, context: ssl.SSLContext, handler: Handler) -> None:
    """One connection. A client that leaves in the middle is what these tests are about, and no error."""
    stream = trio.SSLStream(transport, context, server_side=True, https_compatible=True)
    try:
        await handler(stream, await _read_request(stream))
        await stream.aclose()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def _read_request(stream: Stream) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request or len(request.partition(b"\r\n\r\n")[2]) < _content_length(request):
        part = await stream.receive_some()
        if not part:
            raise trio.BrokenResourceError
        request += bytes(part)
    return request


def _content_length(request: bytes) -> int:
    for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@asynccontextmanager
async def open_https_server(context: ssl.SSLContext, handler: Handler) -> AsyncIterator[int]:
    """Serve on loopback; gives the port."""
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            await serve_https(stream, context, handler)

        listeners: Sequence[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class Outside:
    """An `open_stream` for which every address of the world is one server on loopback, and what was asked of it."""

    def __init__(self, port: int, *, unreachable: Sequence[str] = ()) -> None:
        self._port = port
        self._unreachable = unreachable
        self.connected: list[tuple[str, int]] = []

    async def open_stream(self, address: str, port: int) -> Stream:
        self.connected.append((address, port))
        if address in self._unreachable:
            raise ConnectionRefusedError(111, "Connection refused")
        return await trio.open_tcp_stream("127.0.0.1", self._port)

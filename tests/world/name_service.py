"""Name servers that nobody here wrote, on loopback: NSD has the root zone, signed, and Unbound resolves from it.

    with running_name_service(zone) as service:
        service.resolver()      # the relay's own, which asks Unbound

The whole DNS is one zone, that of the root, so that reverse names, lists and mail domains of a test stand in one text.
It is signed with a key made for it, which Unbound trusts: so answers are authentic as they are in the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import dns.asyncresolver
import dns.dnssec
import dns.dnssectypes
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from relay.internet.resolver import DnsResolver
from tests.world.daemon import free_port, is_listening, open_daemon_directory, require_daemon, running

_HEAD = """\
. 60 SOA ns.root. hostmaster.root. 1 3600 600 86400 60
. 60 NS ns.root.
ns.root. 60 A 127.0.0.1
"""

_NSD = """\
server:
    ip-address: 127.0.0.1@{port}
    username: nsd
    zonesdir: "{directory}"
    database: ""
    pidfile: "{directory}/nsd.pid"
    xfrdfile: "{directory}/xfrd.state"
    zonelistfile: "{directory}/zone.list"
    xfrdir: "{directory}"
    logfile: ""
    server-count: 1
remote-control:
    control-enable: no
zone:
    name: "."
    zonefile: "root.zone"
"""

_UNBOUND = """\
server:
    interface: 127.0.0.1@{port}
    username: unbound
    chroot: ""
    directory: "{directory}"
    pidfile: "{directory}/unbound.pid"
    use-syslog: no
    logfile: ""
    num-threads: 1
    do-ip6: no
    do-not-query-localhost: no
    access-control: 127.0.0.0/8 allow
    qname-minimisation: no
    module-config: "{modules}"
    {anchor}
    # Reverse names of 127.0.0.0/8 and the like, and names below test., are Unbound's own business otherwise.
    local-zone: "127.in-addr.arpa." nodefault
    local-zone: "test." nodefault
    insecure-lan-zones: yes
    unblock-lan-zones: yes
remote-control:
    control-enable: no
stub-zone:
    name: "."
    stub-addr: 127.0.0.1@{authority}
"""


class NameService(NamedTuple):
    #: Of the resolver, on 127.0.0.1.
    port: int
    #: Of the server that has the zone, and resolves nothing for others.
    authority_port: int

    def resolver(self) -> DnsResolver:
        asking = dns.asyncresolver.Resolver(configure=False)
        asking.nameservers = ["127.0.0.1"]
        asking.port = self.port
        return DnsResolver(asking)


@contextmanager
def running_name_service(records: str, *, validates: bool = True) -> Iterator[NameService]:
    """`records`: lines of a master file with whole names. Not `validates`: Unbound believes what it is told."""
    nsd, unbound = require_daemon("nsd"), require_daemon("unbound")
    authority, port = free_port(), free_port()
    zone = dns.zone.from_text(_HEAD + records, origin=".", relativize=False)
    anchor = _sign(zone)
    with (
        open_daemon_directory("nsd", owner="nsd") as at_nsd,
        open_daemon_directory("unbound", owner="unbound") as at_unbound,
    ):
        (at_nsd / "root.zone").write_text(zone.to_text(relativize=False))
        (at_nsd / "nsd.conf").write_text(_NSD.format(port=authority, directory=at_nsd))
        settings = _UNBOUND.format(
            port=port,
            directory=at_unbound,
            authority=authority,
            modules="validator iterator" if validates else "iterator",
            anchor=f'trust-anchor: "{anchor}"' if validates else "",
        )
        (at_unbound / "unbound.conf").write_text(settings)
        with (
            running(
                [nsd, "-d", "-c", str(at_nsd / "nsd.conf")], at_nsd, ready=lambda: is_listening(authority)
            ),
            running(
                [unbound, "-d", "-c", str(at_unbound / "unbound.conf")],
                at_unbound,
                ready=lambda: is_listening(port),
            ),
        ):
            yield NameService(port, authority)


def _sign(zone: dns.zone.Zone) -> str:
    """Sign it in place; gives the line of its key, to be trusted."""
    private = ec.generate_private_key(ec.SECP256R1())
    key = dns.dnssec.make_dnskey(private.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
    with zone.writer() as txn:
        dns.dnssec.sign_zone(zone, txn, keys=[(private, key)], lifetime=30 * 86400)
    return f". DNSKEY {key.to_text()}"

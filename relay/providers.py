"""Who runs the receivers of a domain: a word for each mailbox provider, found by the names of its MX hosts.

`provider_of` is a pure function that never fails: a word of `PROVIDERS`, or `other`. Domains are many and providers
few, and what a provider demands, it demands of all mail to its hosts; so mail is counted by MX host and not by
recipient domain (a company's domain at Google is Google's). A host belongs to a provider where its name is one of the
provider's names or stands below one. The words stand in events for ever: an entry may be added, and none renamed. What
was counted before an entry was added stays under `other`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

#: What is in no table below.
OTHER: Final = "other"
#: Nobody wrote down whose receivers they were: events of before there was a table, and mail that found nobody to ask.
UNKNOWN: Final = "unknown"

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    # Mailboxes.
    "google": ("google.com", "googlemail.com", "psmtp.com"),
    "microsoft": ("outlook.com", "hotmail.com", "mx.microsoft", "office365.us", "partner.outlook.cn"),
    "yahoo": ("yahoodns.net", "yahoo.com"),
    "yahoo_japan": ("yahoo.co.jp",),
    "apple": ("icloud.com", "me.com"),
    "proton": ("protonmail.ch", "proton.me"),
    "fastmail": ("messagingengine.com",),
    "zoho": ("zoho.com", "zoho.eu", "zoho.in"),
    "gmx": ("gmx.net", "gmx.com", "web.de", "mail.com"),
    "ionos": ("kundenserver.de", "ionos.com", "1and1.com", "perfora.net"),
    "telekom": ("t-online.de",),
    "freenet": ("freenet.de",),
    "strato": ("rzone.de",),
    "mail_ru": ("mail.ru",),
    "yandex": ("yandex.ru", "yandex.net"),
    "orange": ("orange.fr",),
    "laposte": ("laposte.net",),
    "free": ("free.fr",),
    "libero": ("libero.it",),
    "seznam": ("seznam.cz",),
    "wp": ("wp.pl",),
    "comcast": ("comcast.net",),
    "att": ("prodigy.net",),
    "qq": ("qq.com",),
    "netease": ("netease.com", "163.com", "126.com"),
    "naver": ("naver.com",),
    "amazon": ("amazonaws.com",),
    "rackspace": ("emailsrvr.com",),
    "godaddy": ("secureserver.net",),
    "ovh": ("ovh.net",),
    "gandi": ("gandi.net",),
    "migadu": ("migadu.com",),
    # Filters that stand in front of somebody else's mailboxes: theirs is the judgement.
    "proofpoint": ("pphosted.com", "ppe-hosted.com"),
    "mimecast": ("mimecast.com", "mimecast.co.za", "mimecast-offshore.com"),
    "barracuda": ("barracudanetworks.com",),
    "cisco": ("iphmx.com",),
    "symantec": ("messagelabs.com",),
    "sophos": ("sophos.com",),
    "hornetsecurity": ("hornetsecurity.com", "antispameurope.com"),
    "cloudflare": ("mx.cloudflare.net",),
}

#: All that `provider_of` can answer.
PROVIDERS: Final = (*_NAMES, OTHER)

_PROVIDER_OF: Final = {name: provider for provider, names in _NAMES.items() for name in names}


def provider_of(mx_hosts: Iterable[str]) -> str:
    """Of the hosts of one domain, in the order of their preference: the first that is known decides. OTHER where none
    is, as for a route of the operator's own."""
    for host in mx_hosts:
        found = _provider_of_host(host)
        if found is not None:
            return found
    return OTHER


@lru_cache(maxsize=4096)
def _provider_of_host(host: str) -> str | None:
    labels = host.lower().rstrip(".").split(".")
    for first in range(len(labels) - 1):
        found = _PROVIDER_OF.get(".".join(labels[first:]))
        if found is not None:
            return found
    return None

"""The demo's data directory, its member, and the ports of all that the demo listens at."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from relay.config import CONFIG_FILE
from relay.config_template import config_template
from relay.core import Core
from relay.operator.api_keys import KeyIssue, KeyRevoke, key_issue, key_revoke
from relay.operator.initialise import initialise
from relay.operator.membership import MemberAdd, member_add
from relay.principals import Operator
from relay.views import members
from tools.demo.reports import PROVIDER_DOMAIN

DID = "did:plc:demodemodemodemodemodemo"
DOMAIN = "yourdomain.com"
OPERATOR_DOMAIN = "relay.example"
OPERATOR = Operator("demo")


class Ports(NamedTuple):
    """On 127.0.0.1; 0 for any free one."""

    http: int
    #: Of the receiver, where all mail goes.
    receiver: int
    submission: int = 0
    console: int = 0


def prepare(directory: Path, ports: Ports) -> None:
    """Made once; its configuration is written anew, because the ports may differ."""
    public_url = f"http://127.0.0.1:{ports.http}"
    if not (directory / CONFIG_FILE).exists():
        initialise(directory, operator_domain=OPERATOR_DOMAIN, public_url=public_url)
    text = config_template(OPERATOR_DOMAIN, public_url)
    inbound = (
        'bind = ["127.0.0.1:0"]',
        'operator_mailbox = "operator@example.org"',
        f'feedback_providers = ["{PROVIDER_DOMAIN}"]',
    )
    for default, demo in (
        ("require_verified_domains = true", "require_verified_domains = false"),
        ('bind = "127.0.0.1:8025"', f'bind = "127.0.0.1:{ports.http}"'),
        ("\n[submission]\n", f'\n[submission]\nbind = ["127.0.0.1:{ports.submission}"]\n'),
        ("\n[inbound]\n", "\n".join(("\n[inbound]", *inbound, ""))),
        ('operator_bind = "127.0.0.1:8026"', f'operator_bind = "127.0.0.1:{ports.console}"'),
        ('# routes = { "*" = "127.0.0.1:2526" }', f'routes = {{ "*" = "127.0.0.1:{ports.receiver}" }}'),
    ):
        assert default in text, default
        text = text.replace(default, demo)
    text += "\n# A new domain may send very little; the demo is for trying things out.\n"
    text += "[warming]\ntiers = [ { hour = 1000, day = 10000 } ]\n"
    (directory / CONFIG_FILE).write_text(text)


async def enrol(core: Core) -> str:
    """The demo member's API key: of a new member, or a new key of the one of an earlier run."""
    with core.store.read() as view:
        known = members.member(view, DID) is not None
        keys = [key for key in members.keys_of(view, DID) if key.revoked_at is None]
    if not known:
        answer: Any = await member_add(core, MemberAdd(did=DID, domains=[DOMAIN], offline=True), OPERATOR)
        return str(answer["apiKey"])
    for key in keys:  # nobody can have them any more: a key is shown once
        await key_revoke(core, KeyRevoke(did=DID, key_id=key.key_id), OPERATOR)
    answer = await key_issue(core, KeyIssue(did=DID), OPERATOR)
    return str(answer["apiKey"])

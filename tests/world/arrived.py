"""What a receiver must have got of a mail that was handed in over SMTP."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from email.parser import BytesHeaderParser

from relay.message.signing import verify
from tests.mailauth import verify_all
from tests.world.mx_options import ReceivedMessage
from tests.world.process import RelayProcess
from tests.world.relay import DOMAIN, OPERATOR_DOMAIN


def without(message: bytes, removed: Collection[str]) -> bytes:
    """The message without these fields of its header, folded lines too."""
    header, blank, body = message.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", header)
    names = {name.lower().encode() for name in removed}
    kept = [field for field in fields if field.partition(b":")[0].strip().lower() not in names]
    return b"\r\n".join(kept) + blank + body


def assert_arrived(
    received: ReceivedMessage, handed_in: bytes, message_id: int, *, removed: Collection[str] = ()
) -> None:
    """Octet for octet, below the fields of the relay and nothing else."""
    kept = without(handed_in, removed)
    assert received.data.endswith(kept), (received.data, kept)
    added = BytesHeaderParser().parsebytes(received.data[: len(received.data) - len(kept)])
    names = added.keys()
    while names and names[0] == "DKIM-Signature":
        del names[0]
    of_bulk = ("List-Unsubscribe", "List-Unsubscribe-Post") if "List-Unsubscribe" in names else ()
    assert [name for name in names if name not in ("Date", "Message-ID")] == [
        *of_bulk,
        *("Feedback-ID", "X-Atmos-Member-Did", "X-Atmos-Message", "Received"),
    ]
    assert f"id {message_id};" in re.sub(r"\s+", " ", added["Received"])
    assert received.mail_from.startswith(f"bounces+{message_id}-")


def assert_signed(relay: RelayProcess, messages: Sequence[ReceivedMessage]) -> None:
    """By the member and by the operator, with two keys each; dkimpy and mailauth agree."""
    shown = json.loads(relay.run_command("dns", str(relay.directory), "--json").stdout)
    groups = [shown["operator"], *shown["domains"]]
    records = {
        record["name"]: record["value"]
        for group in groups
        for record in group["records"]
        if record["type"] == "TXT" and "._domainkey." in record["name"]
    }
    wanted = sorted([DOMAIN, DOMAIN, OPERATOR_DOMAIN, OPERATOR_DOMAIN])
    octets = [message.data for message in messages]
    for verdicts in [*(verify(one, records.get) for one in octets), *verify_all(octets, records)]:
        ours = [verdict for verdict in verdicts if verdict.d in wanted]
        assert sorted(verdict.d for verdict in ours) == wanted
        assert all(verdict.valid for verdict in ours), ours

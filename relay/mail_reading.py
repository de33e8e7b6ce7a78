"""What was read of a mail that came in: which kind of report it is, and what it says. Words only.

A `Reading` is what the reader of reports gives back (`relay.reports`), in whatever process it runs. All its
strings are bounded, without line ends and control characters, and say what a stranger wrote: none of them proves
anything. What a report is believed for are the `tokens`, once this relay has found that it made one of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

#: What kind of mail it is: a delivery report (RFC 3464), one with addresses in UTF-8 (RFC 6533), a report of abuse
#: (RFC 5965), something that only a practised eye takes for a bounce, an automatic answer (RFC 3834), a report about
#: TLS (RFC 8460) or DMARC (RFC 7489), or none of these.
Kind = Literal[
    "dsn", "dsn_utf8", "feedback", "heuristic", "auto_reply", "tls_report", "dmarc_report", "unknown"
]
#: A delivery report in the form that there is for it.
DELIVERY_REPORTS: tuple[Kind, ...] = ("dsn", "dsn_utf8")
#: What tells of a bounce, in whatever form.
BOUNCES: tuple[Kind, ...] = (*DELIVERY_REPORTS, "heuristic")
#: What says nothing of one message.
SAYS_NOTHING: tuple[Kind, ...] = ("unknown", "tls_report", "dmarc_report")
#: RFC 3464 section 2.3.3.
Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]
Verdict = Literal["permanent", "temporary", "complaint", "auto_reply", "none"]

#: Characters.
DIAGNOSTIC_MAX = 1000
HOST_MAX = 255
#: What is kept of a mail that is a report.
RAW_OCTETS_MAX = 64 * 1024
#: How many of each are kept.
TOKENS_MAX = 10
REFERENCES_MAX = 50
SIGNATURES_MAX = 5


class Signature(msgspec.Struct, frozen=True):
    """A DKIM-Signature that the mail has, not verified: of which domain, and the name of its key."""

    domain: str
    selector: str


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    kind: Kind = "unknown"
    action: Action | None = None
    #: The status code (RFC 3463), "5.1.1"; of several recipients that of the first that failed.
    enhanced: str | None = None
    #: The SMTP reply's code.
    code: int | None = None
    #: In one word of docs/BOUNCE_CLASSES.md; None where nothing failed.
    bounce_class: str | None = None
    #: What the receiver said.
    diagnostic: str = ""
    #: Who reports, and whom it had asked.
    reporting_mta: str | None = None
    remote_mta: str | None = None
    #: Of a `feedback`: "abuse", "not-spam", "opt-out" ...
    feedback_type: str | None = None
    #: What may be a token of ours in the mail that it encloses: values of X-Atmos-Message, and local parts as
    #: `bounces+448-...` of envelope senders.
    tokens: tuple[str, ...] = ()

    # Of the mail itself.
    #: The domain of its From, in lower-case A-labels; None: it has none, or several.
    from_domain: str | None = None
    #: Message-IDs of In-Reply-To and References, with their angle brackets.
    references: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = ()
    #: A machine wrote it (Auto-Submitted, Precedence, List-Id ...).
    is_automatic: bool = False

    @property
    def verdict(self) -> Verdict:
        """What it comes to."""
        if self.kind == "feedback":
            return "complaint" if self.feedback_type not in NO_COMPLAINTS else "none"
        if self.kind == "auto_reply":
            return "auto_reply"
        if self.kind not in BOUNCES:
            return "none"
        if self.action == "delayed":
            return "temporary"
        if self.action in (None, "failed"):
            return "temporary" if (self.enhanced or str(self.code or 5))[0] == "4" else "permanent"
        return "none"


class NotReadNow(Exception):
    """Nobody could be asked to read it. The same mail may be read when it comes again."""


#: Reports in the same form that call nothing spam: RFC 6430, RFC 6591.
NO_COMPLAINTS = ("not-spam", "auth-failure", "virus")

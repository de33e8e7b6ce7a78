"""What one port's dialogue offers, demands and bears: the parameters of `relay.reception.server`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: One message's worth of mistakes, and more than any honest client makes.
ERRORS_MAX: Final = 20
#: Commands that carry nothing, since the last message that was taken.
IDLE_COMMANDS_MAX: Final = 100
AUTH_FAILURES_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Made by `submission` or `inbound`."""

    #: Our host name, as the banner and EHLO say it.
    name: str
    #: There is a certificate, so STARTTLS can be offered.
    has_tls: bool
    #: AUTH is offered, and nothing can be sent without it.
    has_auth: bool
    #: AUTH is taken without TLS, too: for loopback, and nothing else.
    auth_in_clear: bool
    #: A bare CR or LF in a message becomes CRLF; else it is refused.
    mends_line_ends: bool
    #: A line of a message may have any length; else it is refused.
    takes_long_lines: bool
    message_bytes_max: int
    recipients_max: int
    #: Refused recipients before the connection is closed; None: any number.
    refused_recipients_max: int | None
    errors_max: int = ERRORS_MAX
    idle_commands_max: int = IDLE_COMMANDS_MAX
    auth_failures_max: int = AUTH_FAILURES_MAX

    @classmethod
    def submission(
        cls,
        name: str,
        *,
        has_tls: bool,
        auth_in_clear: bool = False,
        message_bytes_max: int = 10 * 1024 * 1024,
        recipients_max: int = 100,
    ) -> Rules:
        """For members: 587, 465, 2525. A list of recipients may well have many that are refused."""
        return cls(
            name=name,
            has_tls=has_tls,
            has_auth=True,
            auth_in_clear=auth_in_clear,
            mends_line_ends=True,
            takes_long_lines=False,
            message_bytes_max=message_bytes_max,
            recipients_max=recipients_max,
            refused_recipients_max=None,
        )

    @classmethod
    def inbound(
        cls,
        name: str,
        *,
        has_tls: bool,
        message_bytes_max: int = 11 * 1024 * 1024,
        recipients_max: int = 100,
        refused_recipients_max: int = 20,
    ) -> Rules:
        """For strangers: 25. Who asks for one address after the other is looking for some that are there."""
        return cls(
            name=name,
            has_tls=has_tls,
            has_auth=False,
            auth_in_clear=False,
            mends_line_ends=False,
            # Reports enclose what others wrote, and are read here, not sent on.
            takes_long_lines=True,
            message_bytes_max=message_bytes_max,
            recipients_max=recipients_max,
            refused_recipients_max=refused_recipients_max,
        )

"""What the golden events share."""

from typing import Final

DID: Final = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
#: 24 November 2025, 16:00 UTC, in microseconds.
ACCEPTED_AT_US: Final = 1_764_000_000_987_654
MINUTE_US: Final = 60_000_000
SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

"""What holds of every reading, whatever came in."""

from __future__ import annotations

import re

from relay.mail_reading import DIAGNOSTIC_MAX, HOST_MAX, REFERENCES_MAX, SIGNATURES_MAX, TOKENS_MAX, Reading

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_WORD_MAX = 600


def assert_within_bounds(reading: Reading) -> None:
    assert len(reading.diagnostic) <= DIAGNOSTIC_MAX
    hosts = (reading.reporting_mta, reading.remote_mta, reading.from_domain)
    assert all(host is None or 0 < len(host) <= HOST_MAX for host in hosts)
    assert len(reading.tokens) <= TOKENS_MAX
    assert len(reading.references) <= REFERENCES_MAX
    assert len(reading.signatures) <= SIGNATURES_MAX
    assert len(set(reading.tokens)) == len(reading.tokens)
    assert reading.enhanced is None or re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", reading.enhanced)
    assert reading.code is None or 200 <= reading.code < 600
    assert reading.feedback_type is None or re.fullmatch(r"[a-z-]{1,40}", reading.feedback_type)
    assert (reading.kind == "feedback") == (reading.feedback_type is not None)
    words = [reading.diagnostic, *(host for host in hosts if host), *reading.tokens, *reading.references]
    words += [word for signature in reading.signatures for word in (signature.domain, signature.selector)]
    assert all(_CONTROL.search(word) is None for word in words)
    assert all(len(word) <= _WORD_MAX for word in words[1:])
    assert reading.verdict in ("permanent", "temporary", "complaint", "auto_reply", "none")
    # Words for a failure only where there is one.
    if reading.kind in ("auto_reply", "unknown", "tls_report", "dmarc_report"):
        assert (reading.action, reading.enhanced, reading.code, reading.bounce_class) == (None,) * 4

"""New keys in the place of old ones: members' DKIM keys, and the relay's own secrets."""

from __future__ import annotations

from relay.events.base import DomainEvent, RelayEvent


class DomainKeyCreated(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The domain has another pair of DKIM keys, which waits until the DNS has its public halves (base64)."""

    TYPE = "domain.key_created"
    STREAMED = True
    selector_stem: str
    rsa_public: str
    ed25519_public: str
    #: The Unix user who gave the order.
    by: str | None = None


class DomainKeySwitched(DomainEvent, frozen=True, kw_only=True, omit_defaults=True):
    """From here on the domain's sends are signed with the pair that waited; the one before is retired, and signs only
    what was accepted before."""

    TYPE = "domain.key_switched"
    STREAMED = True
    selector_stem: str
    retired_stem: str


class OperatorKeyCreated(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """As `domain.key_created`, of the operator's own domain."""

    TYPE = "operator.key_created"
    STREAMED = False
    domain: str
    selector_stem: str
    rsa_public: str
    ed25519_public: str
    by: str | None = None


class OperatorKeySwitched(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """As `domain.key_switched`. The first one retires nothing: it names the pair that `init` made, so that no file that
    is made later is taken for it."""

    TYPE = "operator.key_switched"
    STREAMED = False
    domain: str
    selector_stem: str
    retired_stem: str | None = None


class SigningKeyDeleted(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The files of a retired pair are gone: nothing that was signed with it can be retried or audited any more."""

    TYPE = "signing_key.deleted"
    STREAMED = False
    domain: str
    selector_stem: str


class PepperRotated(RelayEvent, frozen=True, kw_only=True, omit_defaults=True):
    """From here on the relay's keys are derived from the pepper of this number; those before it are kept.

    A message's links and addresses are made by the pepper that held when it was accepted, for ever.
    """

    TYPE = "pepper.rotated"
    STREAMED = False
    number: int
    by: str | None = None

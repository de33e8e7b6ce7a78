"""What a session asks of whoever decides, and what it tells of itself: the four questions, and nothing else.

The contract. A `Door` is one object for all connections of a port (submission's, inbound's). Each question is asked
once the line that raises it is whole and well-formed, and is answered by a `Reply`, which the client gets word for
word, but that its text is made one of printable ASCII (`relay.reception.replies`). A reply of 2yz accepts; any other
refuses, and nothing of what was asked for stands. 421 says it and ends the connection.

- The questions of one connection come one after the other, never two at a time. Those of different connections come
  at the same time.
- `data` is asked when the last octet of the message has come. **Its 2yz is the only thing in the world that makes the
  client hear 250**, so it is given when the message is durable, and not before. Where the client is gone by then, or
  the relay is killed, the client did not hear it and will come again with the same message.
- Cancelled (the relay ends and its grace is over): the question was not answered, and the client hears nothing. What is
  being written then may or may not be; to the client it is not.
- An exception is a defect: it is logged by its type and place, the client hears 451 4.3.0, and the connection ends. The
  others go on. What must end the relay does so by itself (a poisoned log ends its writer's task).
- Waiting is no one's deadline here: a door that waits keeps its own client waiting, and nobody else.

What the session sees to, and a door need not: TLS, whether AUTH is legal now, order and grammar of commands, the count
of recipients, sizes, lines, NULs, dots, buffers, time, places, and who guesses passwords.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from relay.reception.commands import Transaction
from relay.reception.data import Message
from relay.reception.replies import Reply

__all__ = ["Admitted", "Client", "Door", "Message", "Reply", "Transaction", "Visit"]

Who = TypeVar("Who")


class Client(NamedTuple):
    """Where a connection comes from."""

    #: In the one form that addresses have here.
    address: str
    #: What it is counted under: an IPv4 address for itself, an IPv6 address for its /64.
    counted_as: str
    #: This machine, or a trusted proxy: it has no limit of connections, and is slowed rather than locked out.
    is_trusted: bool


class Admitted(NamedTuple, Generic[Who]):
    """The right password: who it is, for the door's own use, and what its share of the buffers is counted under (the
    DID)."""

    who: Who
    party: str


@dataclass(slots=True)
class Visit(Generic[Who]):
    """What is known of a connection now. The session's to write, the door's to read."""

    client: Client
    #: What it said to EHLO or HELO; printable ASCII of at most 255 octets, and nothing that was checked further.
    ehlo_name: str = ""
    #: It said EHLO, not HELO.
    is_extended: bool = False
    #: "TLSv1.3", say; None: in the clear.
    tls: str | None = None
    #: Who was authenticated; None: nobody.
    admitted: Admitted[Who] | None = None

    @property
    def protocol(self) -> str:
        """The word of RFC 3848 for a Received field: ESMTPSA for a submission under TLS."""
        if not self.is_extended:
            return "SMTP"
        return "ESMTP" + ("S" if self.tls else "") + ("A" if self.admitted else "")


class Door(Protocol[Who]):
    """Who decides. See the module docstring."""

    async def authenticate(self, user: str, password: str, client: Client) -> Admitted[Who] | Reply:
        """Whether this user has this password. A 535 is a wrong pair, of whichever of its two, and counts towards the
        lock-out; the session lets every one of them take equally long. A pair that a client has split in a DID is
        joined already. Any other refusal (525 for a member who is suspended, 454 for now) counts for nothing.

        Asked only under TLS, or on loopback; never on a port without AUTH.
        """
        ...

    async def mail(self, visit: Visit[Who], transaction: Transaction) -> Reply:
        """Whether a transaction with this sender may begin. Its recipients are still empty."""
        ...

    async def recipient(self, visit: Visit[Who], transaction: Transaction, recipient: str) -> Reply:
        """Whether this recipient may be one more; accepted, it joins `transaction.recipients` after this returns."""
        ...

    async def data(self, visit: Visit[Who], transaction: Transaction, message: Message) -> Reply:
        """Whether the message is taken. See the module docstring. There is at least one recipient."""
        ...

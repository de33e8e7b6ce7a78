"""`bounce`: a mail that came back about a message, understood as the relay would, and recorded by hand."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from relay.operator.client import administer
from tools.naming import DirectoryArgument, one_message
from tools.output import directory_argument, json_option, print_json

if TYPE_CHECKING:
    from relay.mail_reading import Reading

#: As large as the largest mail that the relay takes.
OCTETS_MAX = 12 * 1024 * 1024

file_option = click.option(
    "--file",
    "source",
    type=click.File("rb"),
    default="-",
    help="The mail, as a file; without it, from standard input.",
)


@click.group("bounce", help="Mail that tells what became of a message: read it, record it.")
def bounce_group() -> None: ...


@bounce_group.command("paste")
@click.argument(
    "directory",
    cls=DirectoryArgument,
    required=False,
    type=click.Path(file_okay=False, path_type=Path),
)
@file_option
@json_option
@click.pass_context
def bounce_paste(context: click.Context, directory: Path | None, source: BinaryIO, as_json: bool) -> None:
    """Say how the relay would understand a mail that came back.

    The mail comes from standard input, whole, with its header. With DIR it is also said which message it is about, and
    what would follow if `bounce record` recorded it. Nothing is changed.

    Exit status: 0 it says what became of a mail, 1 it does not, 2 usage.
    """
    octets = _octets_of(source)
    reading = _read(octets)
    about: Any = None if directory is None else administer(directory, "bounce_paste", _order(octets, reading))
    if as_json:
        print_json(_as_object(reading, about))
    else:
        _tell(reading, about)
    from tools.bounce_words import is_about_a_mail

    context.exit(0 if is_about_a_mail(reading) else 1)


@bounce_group.command("record")
@directory_argument
@one_message(
    required=False, about="The message that it is about; without it, the one whose token is in the mail."
)
@click.option("--reason", help="Why; it is kept with the event.")
@file_option
@json_option
def bounce_record(
    directory: Path, message_id: int | None, reason: str | None, source: BinaryIO, as_json: bool
) -> None:
    """Record a mail that came back, as if it had come to the relay itself.

    The mail comes from standard input, whole, with its header. A delivery report that says that the message failed for
    good counts as a bounce, once a message; a complaint counts, because you say so. The same mail changes nothing a
    second time.

    Exit status: 0 it is recorded, 1 it is not, and why, 2 usage.
    """
    from relay.mail_reading import RAW_OCTETS_MAX

    octets = _octets_of(source)
    reading = _read(octets)
    order = {
        **_order(octets, reading),
        "message": message_id,
        "reason": reason,
        "raw": base64.b64encode(octets[:RAW_OCTETS_MAX]).decode(),
    }
    answer: Any = administer(directory, "bounce_record", order)
    if as_json:
        print_json(answer)
        return
    from tools.bounce_words import tell_effects, tell_message

    for sentence in (*tell_message(answer), *tell_effects(answer, reading, would=False)):
        click.echo(sentence)


def _octets_of(source: BinaryIO) -> bytes:
    """The mail as it was saved or pasted: without empty lines before it, and without the line of a mailbox file."""
    if source.isatty():
        click.echo("Paste the mail, with its header; then Ctrl-D.", err=True)
    octets = source.read(OCTETS_MAX + 1)
    if len(octets) > OCTETS_MAX:
        raise click.UsageError(f"the mail is longer than {OCTETS_MAX:,} octets")
    octets = octets.lstrip(b"\r\n")
    if octets.startswith(b"From "):
        octets = octets.partition(b"\n")[2]
    if not octets.strip():
        raise click.UsageError("there is no mail: give it on standard input, or name it with --file")
    return octets


def _read(octets: bytes) -> Reading:
    """What the relay reads, and the tokens in its own header besides: whom it came to, which the relay knows from the
    envelope, stands there (Delivered-To, say)."""
    import msgspec

    from relay.mail_reading import TOKENS_MAX
    from relay.reports.read import read_mail

    reading = read_mail(octets)
    header = octets.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    # As a text without a header.
    tokens = dict.fromkeys((*reading.tokens, *read_mail(b"\n" + header).tokens))
    return msgspec.structs.replace(reading, tokens=tuple(tokens)[:TOKENS_MAX])


def _order(octets: bytes, reading: Reading) -> dict[str, Any]:
    import msgspec

    return {
        "reading": msgspec.to_builtins(reading),
        "sha256": hashlib.sha256(octets).hexdigest(),
        "size": len(octets),
    }


def _as_object(reading: Reading, about: Any) -> dict[str, Any]:
    from relay.message.advice import advice

    return {
        "kind": reading.kind,
        "verdict": reading.verdict,
        "action": reading.action,
        "enhanced": reading.enhanced,
        "code": reading.code,
        "bounceClass": reading.bounce_class,
        "meaning": advice(reading.bounce_class),
        "diagnostic": reading.diagnostic or None,
        "reportingMta": reading.reporting_mta,
        "remoteMta": reading.remote_mta,
        "feedbackType": reading.feedback_type,
        "tokens": list(reading.tokens),
        **({} if about is None else {"about": about}),
    }


def _tell(reading: Reading, about: Any) -> None:
    from tools.bounce_words import is_about_a_mail, tell_effects, tell_message, tell_reading, tell_token

    sentences = [*tell_reading(reading)]
    if about is None:
        sentences += [tell_token(reading)] if is_about_a_mail(reading) else []
    elif about["messageId"] is None:
        if is_about_a_mail(reading):
            sentences.append(
                "No token of this relay's is in it, so by mail it would not be believed: "
                "`bounce record --message MESSAGE_ID` can record it."
            )
    else:
        sentences += tell_message(about)
        if is_about_a_mail(reading):
            sentences += tell_effects(about, reading, would=True)
    for sentence in sentences:
        click.echo(sentence)

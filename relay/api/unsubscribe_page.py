"""The pages that a person sees who follows an unsubscribe link, in the one style of `relay.api.page`.

Contract. They show neither the recipient's address nor the subject: whoever holds a link may not be whom the mail was
for.
"""

from __future__ import annotations

from html import escape

from quart import Response

from relay.api.page import page

#: What the button sends, and what mail clients send without a page (RFC 8058 3.1).
ONE_CLICK = ("List-Unsubscribe", "One-Click")

_SENTENCE_OF_STATUS = {
    400: "This request is not one that an unsubscribe link answers to. Open the link itself and use its button.",
    404: "This unsubscribe link is not valid. It may have been cut short on its way: please open it from the mail "
    "itself.",
    405: "An unsubscribe link cannot be used this way. Open the link itself and use its button.",
    408: "The request did not arrive in time. Please try again.",
    413: "This request is larger than any that an unsubscribe link answers to.",
    429: "Too many requests come from your network just now. Please try again in a moment.",
    503: "You could not be unsubscribed just now. Please try again in a few minutes.",
}
_SENTENCE_OF_DEFECT = (
    "Something went wrong on our side, and you were not unsubscribed. Please try again later."
)


def question_page(sending_domain: str | None) -> Response:
    """Asks, and has the one button. `sending_domain`: whose mail it was, where that is known."""
    name, value = ONE_CLICK
    return page(
        "Unsubscribe",
        f"<p>Do you want no more newsletters and other bulk mail from {_sender(sending_domain)}?</p>\n"
        # Without an action it goes back to this address, wherever a proxy has put it.
        f'<form method="post"><button type="submit" name="{name}" value="{value}">Unsubscribe</button></form>\n'
        '<p class="quiet">Mail that you ask for yourself, such as a login link or a receipt, can still reach you.</p>',
        200,
    )


def unsubscribed_page(sending_domain: str | None) -> Response:
    return page(
        "You are unsubscribed",
        f'<p role="status">You will get no more newsletters and other bulk mail from {_sender(sending_domain)}.</p>\n'
        '<p class="quiet">There is nothing else to do. You can close this page.</p>',
        200,
    )


def error_page(status: int, request_id: str | None = None) -> Response:
    """What went wrong, for a person; `request_id` is what the relay's log has a defect under."""
    sentence = escape(_SENTENCE_OF_STATUS.get(status, _SENTENCE_OF_DEFECT))
    if request_id is not None:
        sentence += f" (Request {escape(request_id)})"
    return page("This did not work", f'<p role="alert">{sentence}</p>', status)


def _sender(sending_domain: str | None) -> str:
    return "this sender" if sending_domain is None else f"<strong>{escape(sending_domain)}</strong>"

"""The pages that a person sees who follows an unsubscribe link: plain HTML, one style, no script.

Contract. A page works without JavaScript, without images and with nothing loaded from anywhere; in light and dark, at
a width of 320 px and with text at 200 %; with a keyboard and a screen reader (WCAG 2.2 AA: one `main`, one heading,
a button with a name and a target of 48 px, contrasts of 4.5:1 or more, a visible focus, the result a status). It shows
neither the recipient's address nor the subject: whoever holds a link may not be whom the mail was for.

The headers let a browser do nothing but show the page and post its form back to where it came from; nothing is
cached, indexed, framed, or told to another site by a Referer.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

from quart import Response

_STYLE = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #ffffff; --text: #1c1e21; --quiet: #4b5058;
  --line: #d5d9df; --action: #0b57d0; --on-action: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --back: #121417; --card: #1d2024; --text: #e9ebee; --quiet: #b6bcc4;
    --line: #3a3f46; --action: #a8c7fa; --on-action: #062e6f; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 34rem; margin: 8vh auto 0; padding: 1.5rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.25; }
p { margin: 0 0 1rem; }
p:last-child { margin-bottom: 0; }
.quiet { color: var(--quiet); }
button { min-width: min(12rem, 100%); min-height: 3rem; margin: .25rem 0 1.25rem; padding: .5rem 1.5rem;
  border: 1px solid transparent; border-radius: .5rem; background: var(--action); color: var(--on-action);
  font: inherit; font-weight: 600; cursor: pointer; }
button:hover { text-decoration: underline; }
button:focus-visible { outline: 3px solid var(--text); outline-offset: 3px; }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
}

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
    return _page(
        "Unsubscribe",
        f"<p>Do you want no more newsletters and other bulk mail from {_sender(sending_domain)}?</p>\n"
        # Without an action it goes back to this address, wherever a proxy has put it.
        f'<form method="post"><button type="submit" name="{name}" value="{value}">Unsubscribe</button></form>\n'
        '<p class="quiet">Mail that you ask for yourself, such as a login link or a receipt, can still reach you.</p>',
        200,
    )


def unsubscribed_page(sending_domain: str | None) -> Response:
    return _page(
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
    return _page("This did not work", f'<p role="alert">{sentence}</p>', status)


def _sender(sending_domain: str | None) -> str:
    return "this sender" if sending_domain is None else f"<strong>{escape(sending_domain)}</strong>"


def _page(title: str, content: str, status: int) -> Response:
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""
    return Response(page, status, headers=_HEADERS, content_type="text/html; charset=utf-8")

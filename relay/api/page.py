"""What all pages of the relay are: plain HTML, one style, no script.

Contract. A page works without JavaScript, without images and with nothing loaded from anywhere; in light and dark, at
a width of 320 px and with text at 200 %; with a keyboard and a screen reader (WCAG 2.2 AA: one `main`, one heading,
a button with a name and a target of 48 px, contrasts of 4.5:1 or more, a visible focus, the result a status).

The headers let a browser do nothing but show the page and post its form back to where it came from; nothing is
cached, indexed, framed, or told to another site by a Referer.
"""

from __future__ import annotations

import base64
import hashlib

from quart import Response

from relay.api.operations import Described, Parameter

#: The token in the path of a link.
TOKEN = Parameter("token", {"type": "string"}, where="path")

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


def page(title: str, content: str, status: int) -> Response:
    html = f"""<!DOCTYPE html>
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
    return Response(html, status, headers=_HEADERS, content_type="text/html; charset=utf-8")


def page_answers(*statuses: int) -> dict[int, Described]:
    """What such an operation may answer, for the OpenAPI document."""
    return {status: Described("A page for a person", media_type="text/html") for status in statuses}


def form(name: str, value: str) -> dict[str, object]:
    """The body that a button sends, for the OpenAPI document."""
    return {"schema": {"type": "object", "required": [name], "properties": {name: {"const": value}}}}

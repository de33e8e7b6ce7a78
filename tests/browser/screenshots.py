"""`make screenshots`: docs/CONSOLE.md's pictures again, of both consoles on a relay with a past.

Each is less than BYTES_MAX, or the command fails.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from playwright.sync_api import Browser

from tests.browser.browsing import NARROW_DARK, Look, look, open_chromium
from tests.browser.conftest import sign_in
from tests.browser.filled import DID, OTHER_DOMAIN, FilledRelay, filled, make_past

PICTURES: Final = Path("docs") / "console"
BYTES_MAX: Final = 100_000
#: Of a page that is longer, the top.
HEIGHT_MAX: Final = 900
HEIGHT_MIN: Final = 400
LIGHT: Final = Look("light", 960, HEIGHT_MAX, "light")
DARK: Final = Look("dark", 960, HEIGHT_MAX, "dark")
#: On which the relay ran before.
DAYS: Final = (12, 9, 6, 4, 2, 1)


class Picture(NamedTuple):
    name: str
    door: str
    #: With the names of messages.
    path: str
    how: Look = LIGHT


PICTURES_WANTED: Final = (
    Picture("member-overview", "member", "/console/"),
    Picture("member-messages", "member", "/console/messages"),
    Picture("member-message", "member", "/console/messages/{put_off}"),
    Picture("member-message-bounced", "member", "/console/messages/{bounced}", NARROW_DARK),
    Picture("member-contents", "member", "/console/messages/{sent}/contents"),
    Picture("member-suppressions", "member", "/console/suppressions"),
    Picture("member-domain", "member", "/console/domains/bare.example"),
    Picture("member-keys", "member", "/console/keys"),
    Picture("member-webhooks", "member", "/console/webhooks"),
    Picture("member-forwarding", "member", "/console/forwarding"),
    Picture("operator-overview", "operator", "/"),
    Picture("operator-queue", "operator", "/queue", DARK),
    Picture("operator-find", "operator", "/find?recipient=nobody@people.example"),
    Picture("operator-top", "operator", "/top"),
    Picture("operator-message", "operator", "/messages/{bounced}"),
    Picture("operator-members", "operator", "/members"),
    Picture("operator-member", "operator", f"/members/{DID}/membership"),
    Picture("operator-domains", "operator", "/domains"),
    Picture("operator-reputation", "operator", f"/reputation/{OTHER_DOMAIN}"),
    Picture("operator-providers", "operator", "/providers"),
    Picture("operator-policy", "operator", "/policy"),
    Picture("operator-inbound", "operator", "/inbound"),
    Picture("operator-log", "operator", "/log"),
)


def take(relay: FilledRelay, chromium: Browser, directory: Path) -> list[str]:
    """The files, written anew; a sentence for each that is too large."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.png"):
        old.unlink()
    doors = sign_in(relay, chromium)
    too_large = []
    for picture in PICTURES_WANTED:
        with look(chromium, picture.how, doors[picture.door].state) as tab:
            response = tab.go(doors[picture.door].url + picture.path.format(**relay.messages))
            assert response.status == 200, (picture, tab.page.inner_text("body"))
            height: int = tab.page.evaluate("document.documentElement.scrollHeight")
            tab.page.set_viewport_size({"width": picture.how.width, "height": min(height, HEIGHT_MAX)})
            path = directory / f"{picture.name}.png"
            height = min(height, HEIGHT_MAX)
            # Of what is dense, less is shown.
            while len(tab.page.screenshot(path=path)) > BYTES_MAX and height > HEIGHT_MIN:
                height -= 100
                tab.page.set_viewport_size({"width": picture.how.width, "height": height})
            if (octets := path.stat().st_size) > BYTES_MAX:
                too_large.append(f"{path} has {octets:,} bytes")
    return too_large


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("--directory", type=Path, default=PICTURES, help="default: %(default)s")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with (
        tempfile.TemporaryDirectory(prefix="console-") as name,
        filled(make_past(Path(name) / "data", DAYS), with_hostile_texts=False) as relay,
        open_chromium() as chromium,
    ):
        if too_large := take(relay, chromium, options.directory):
            raise SystemExit("\n".join(too_large))
    print(f"{len(PICTURES_WANTED)} pictures are written to {options.directory}")

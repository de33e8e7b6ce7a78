"""The OpenAPI document as text that can be compared line by line. Run as a program it writes the golden file."""

import json
from pathlib import Path

from relay.api.app import OPERATIONS
from relay.api.openapi import openapi_document

GOLDEN = Path(__file__).with_name("openapi.json")


def text() -> str:
    document = openapi_document(OPERATIONS, "https://relay.example")
    document["info"]["version"] = "the version that is installed"
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    GOLDEN.write_text(text())
    print(f"{GOLDEN} is written")


if __name__ == "__main__":
    main()

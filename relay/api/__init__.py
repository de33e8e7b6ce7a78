"""The HTTP edge: quart-trio below hypercorn. It parses, authenticates, asks a decision, appends, and answers JSON.

Nothing is decided here and nothing is kept here.
"""

from relay.api.app import create_app
from relay.api.server import serve_http

__all__ = ["create_app", "serve_http"]

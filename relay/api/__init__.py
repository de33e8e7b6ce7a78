"""The HTTP edge: quart-trio below hypercorn. It parses, authenticates, asks for a decision, and answers.

May import everything below it; of a running relay it is given what `relay.edge` has, and nothing more. It must never
decide, and never keep, anything: what has to be decided goes through `edge.decide`.
"""

from relay.api.app import create_app
from relay.api.server import serve_http

__all__ = ["create_app", "serve_http"]

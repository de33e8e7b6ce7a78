"""The operator's console in the browser: a door of its own, and the operator's pages.

It is served by the core, also where edges serve all other doors, on `[console] operator_bind` and nowhere else. It is
made of the frame of `relay.console`, and shows that room's pages of each member below `/members/DID`.

May import `console`, the core, the operator's commands and all below them. It must never do what no command does: every
number and every act is a command's of `relay.operator`, carried out as `Operator("console:SESSION")`, or what
`atmos-relay` prints in a process of its own (`relay.operator_console.command_line`).

A page stands in `relay.operator_console.pages`; how to write one, `relay.console` says.
"""

from relay.operator_console.door import serve_operator_console

__all__ = ["serve_operator_console"]

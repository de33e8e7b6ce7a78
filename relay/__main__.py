"""`python -m relay` is the command `atmos-relay`."""

from tools.cli import main

main()

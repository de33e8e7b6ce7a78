"""What holds for all tests."""

import signal

# A shell that runs us in the background has Ctrl-C ignored, and every program that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

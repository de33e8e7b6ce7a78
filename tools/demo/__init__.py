"""`make demo`: a whole world for mail on one machine, with nothing outside it.

`__main__` starts the relay and shows what it does, `directory` makes its data directory, `receiver` is the MX for
everything, `reports` writes what providers send back, `names` is the DNS of the demo, `mailbox` shows in a browser what
arrived. It imports the relay as its tests do, from above; the relay never imports it.
"""

"""What a message looks like on the wire: composing, header fields, signatures, notifications of bounces, tokens.

All of it is pure, but for reading and writing the files of keys (`key_files`, `keys`). May import the words, `config`,
`codec` and the views. It must never decide whether a mail may be sent, nor talk to anybody: composing the same events
again, today or in a year, gives the same bytes.
"""

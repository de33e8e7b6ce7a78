"""Backups of a log: made beside its writer, and put back.

`backup` makes one, `restore` makes a log of one, `format` is what stands in a backup's manifest, `files` the locks and
the small files of both. May import the log's own modules. It must never write into the log that it copies.
"""

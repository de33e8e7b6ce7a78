"""`log inspect`: the segments."""

from __future__ import annotations

from pathlib import Path

import click

from spool.reader import LogReader, SegmentInfo
from tools.log.directory import log_directory
from tools.output import counted, directory_argument, json_option, print_json, print_table, wide_option


@click.command("inspect")
@directory_argument
@wide_option
@json_option
def inspect_command(directory: Path, as_json: bool) -> None:
    """List the segments: their files, sizes and sequence numbers."""
    segments = LogReader(log_directory(directory)).segments()
    rows = [_segment_row(segment) for segment in segments]
    total_records = sum(segment.records for segment in segments)
    total_bytes = sum(segment.bytes for segment in segments)
    if as_json:
        print_json({"segments": rows, "records": total_records, "bytes": total_bytes})
        return
    columns = ("file", "firstSeq", "lastSeq", "records", "bytes", "sealed", "stripped")
    table = [{**row, "sealed": _yes(row["sealed"]), "stripped": _yes(row["stripped"])} for row in rows]
    print_table(table, columns, empty="The log has no segments.")
    click.echo(
        f"{counted(len(segments), 'segment')}, {counted(total_records, 'record')}, {total_bytes:,} bytes"
    )


def _segment_row(segment: SegmentInfo) -> dict[str, object]:
    return {
        "file": segment.file,
        "firstSeq": segment.first_seq,
        "lastSeq": segment.last_seq,
        "records": segment.records,
        "bytes": segment.bytes,
        "sealed": segment.sealed,
        "stripped": segment.stripped,
    }


def _yes(value: object) -> str:
    return "yes" if value else "no"

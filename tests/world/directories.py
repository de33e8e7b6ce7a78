"""Data directories, looked at from outside and copied."""

import shutil
from pathlib import Path


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def copy_of(directory: Path, target: Path) -> None:
    """The log and keys as a killed process leaves them; the views are left out, to be built again."""
    shutil.copytree(directory, target, ignore=shutil.ignore_patterns("views", "*.sock", "http.address"))


def names_in(directory: Path, text: str) -> list[str]:
    """The files below the directory that hold the text, in any case."""
    return [
        str(path.relative_to(directory))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and text.lower().encode() in path.read_bytes().lower()
    ]

"""Kinds of files, by the ends of their names: what media type one gets, and which ones no large provider takes.

Contract. All of it is pure: the tables stand in this file, because what a machine knows of names (`mimetypes`) differs
from the next machine's. `refused_kind` looks into a zip file, too, at its directory only: nothing is unpacked, at most
ZIP_ENTRIES_MAX names are read, and the time is linear in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

#: What says nothing of a file.
UNKNOWN_TYPE: Final = "application/octet-stream"

#: What Gmail neither sends nor takes (support.google.com/mail/answer/6590). A receiver would refuse the whole mail, and
#: think the worse of its sender.
# fmt: off
REFUSED_KINDS: Final = frozenset({
    "ade", "adp", "apk", "appx", "appxbundle", "bat", "cab", "chm", "cmd", "com", "cpl", "diagcab", "diagcfg",
    "diagpkg", "dll", "dmg", "ex", "ex_", "exe", "hta", "img", "ins", "iso", "isp", "jar", "jnlp", "js", "jse",
    "lib", "lnk", "mde", "mjs", "msc", "msi", "msix", "msixbundle", "msp", "mst", "nsh", "pif", "ps1", "scr",
    "sct", "shb", "sys", "vb", "vbe", "vbs", "vhd", "vxd", "wsc", "wsf", "wsh", "xll",
})
# fmt: on

#: There is no message/* and no multipart/* here: their parts may not be in base64 (RFC 2046 §5.2.1, RFC 2045 §6.4).
_TYPES: Final = {
    "7z": "application/x-7z-compressed",
    "aac": "audio/aac",
    "asc": "application/pgp-signature",
    "avi": "video/x-msvideo",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "bz2": "application/x-bzip2",
    "css": "text/css",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "dotx": "application/vnd.openxmlformats-officedocument.wordprocessingml.template",
    "epub": "application/epub+zip",
    "flac": "audio/flac",
    "gif": "image/gif",
    "gpx": "application/gpx+xml",
    "gz": "application/gzip",
    "heic": "image/heic",
    "heif": "image/heif",
    "htm": "text/html",
    "html": "text/html",
    "ico": "image/vnd.microsoft.icon",
    "ics": "text/calendar",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "jxl": "image/jxl",
    "key": "application/vnd.apple.keynote",
    "log": "text/plain",
    "m4a": "audio/mp4",
    "m4v": "video/mp4",
    "md": "text/markdown",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "numbers": "application/vnd.apple.numbers",
    "odg": "application/vnd.oasis.opendocument.graphics",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odt": "application/vnd.oasis.opendocument.text",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "ogv": "video/ogg",
    "opus": "audio/ogg",
    "otf": "font/otf",
    "p7s": "application/pkcs7-signature",
    "pages": "application/vnd.apple.pages",
    "pdf": "application/pdf",
    "pkpass": "application/vnd.apple.pkpass",
    "png": "image/png",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "ps": "application/postscript",
    "psd": "image/vnd.adobe.photoshop",
    "rar": "application/vnd.rar",
    "rtf": "application/rtf",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "tgz": "application/gzip",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "toml": "application/toml",
    "tsv": "text/tab-separated-values",
    "ttf": "font/ttf",
    "txt": "text/plain",
    "vcf": "text/vcard",
    "vcs": "text/x-vcalendar",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "webm": "video/webm",
    "webp": "image/webp",
    "wmv": "video/x-ms-wmv",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "xz": "application/x-xz",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
    "zst": "application/zstd",
}
#: Zip files that a reader opens as a document, and nobody unpacks: what is in them is the format's business (a book may
#: have scripts).
_ZIPPED_DOCUMENTS: Final = frozenset(
    ["docx", "dotx", "epub", "key", "numbers", "odg", "odp", "ods", "odt", "pages", "pkpass", "pptx", "xlsx"]
)

ZIP_ENTRIES_MAX: Final = 10_000
_ZIP_BEGINS: Final = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an empty one
_ENTRY: Final = struct.Struct("<4s24x3H12x")  # APPNOTE 4.3.12: lengths of name, extra field and comment
_END: Final = struct.Struct("<4s6xH2L2x")  # 4.3.16: entries, and the directory's octets and place
_END_64: Final = struct.Struct("<4s28x3Q")  # 4.3.14: the same where they do not fit
_LOCATOR_64: Final = struct.Struct("<4s4xQ4x")  # 4.3.15: where that is
_COMMENT_OCTETS_MAX: Final = 0xFFFF


class ZipError(ValueError):
    """Why a zip file cannot be looked into, as one sentence."""


def content_type_of(filename: str) -> str:
    """The media type that a file of this name gets where nobody says better."""
    return _TYPES.get(_kind(filename), UNKNOWN_TYPE)


def refused_kind(filename: str, content: bytes) -> str | None:
    """What of an attachment large providers never take: its own name, or that of a file in it. None: nothing.

    Raises ZipError where a zip file's directory cannot be read: no receiver could look into it, either.
    """
    kind = _kind(filename)
    if kind in REFUSED_KINDS:
        return filename
    if content.startswith(_ZIP_BEGINS) and kind not in _ZIPPED_DOCUMENTS:
        for name in _names_in_zip(content):
            if _kind(name) in REFUSED_KINDS:
                return name
    return None


def _kind(name: str) -> str:
    """The end of a name, as the system sees it that is most often attacked: Windows drops dots and spaces at a name's
    end, and what follows a colon names another stream of the same file."""
    whole = name.partition(":")[0].rstrip(" .")
    _, dot, end = whole.rpartition(".")
    return end.lower() if dot else ""


def _names_in_zip(content: bytes) -> Iterator[str]:
    """The names in a zip file's directory. Of another alphabet than ASCII they are not what they should be, which the
    ends that count do not notice."""
    start, end, entries = _directory(content)
    if not entries and content.startswith(_ZIP_BEGINS[0]):
        raise ZipError("its directory does not say how many files it has")
    if entries > ZIP_ENTRIES_MAX:
        raise ZipError(f"it has {entries} files; the most is {ZIP_ENTRIES_MAX}")
    for _ in range(entries):
        if start + _ENTRY.size > end:
            raise ZipError("its directory cannot be read")
        signature, name_octets, *others = _ENTRY.unpack_from(content, start)
        if signature != b"PK\x01\x02":
            raise ZipError("its directory cannot be read")
        start += _ENTRY.size
        yield content[start : start + name_octets].decode("latin-1")
        start += name_octets + sum(others)
    if start != end:
        raise ZipError("its directory does not say how many files it has")


def _directory(content: bytes) -> tuple[int, int, int]:
    """Where the directory begins and ends, and how many files stand in it."""
    at = content.rfind(b"PK\x05\x06", max(0, len(content) - _END.size - _COMMENT_OCTETS_MAX))
    if at < 0 or at + _END.size > len(content):
        raise ZipError("it has no directory")
    _, entries, octets, place = _END.unpack_from(content, at)
    end = at
    locator = at - _LOCATOR_64.size
    if (entries == 0xFFFF or octets == 0xFFFFFFFF or place == 0xFFFFFFFF) and content.startswith(
        b"PK\x06\x07", max(0, locator)
    ):
        _, end = _LOCATOR_64.unpack_from(content, locator)
        if end + _END_64.size > locator or not content.startswith(b"PK\x06\x06", end):
            raise ZipError("its directory cannot be found")
        _, entries, octets, _ = _END_64.unpack_from(content, end)
    # It stands right before its end. Where it says to begin is wrong in a file with something before it.
    if octets > end:
        raise ZipError("its directory cannot be found")
    return end - octets, end, entries

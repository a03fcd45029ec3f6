"""Files to text and back, so that what is not changed stays the same byte for byte.

Line ends, a byte order mark and a declared encoding survive: the text is the decoded bytes without the
mark, with nothing translated.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
from typing import NamedTuple


class Unreadable(Exception):
    """A path that holds no text that we can check; the message says what to do."""


class OtherLanguage(Exception):
    """A notebook that is not in Python; the message says in which language it is."""


def is_notebook(path: str) -> bool:
    """Whether a path names a notebook."""
    return path.endswith(".ipynb")


class File(NamedTuple):
    """The content of a file: its bytes, and the text that they mean."""

    raw: bytes
    text: str
    encoding: str

    def encode(self, text: str) -> bytes:
        """Another text in the encoding of this file, with its byte order mark.

        Raises:
            UnicodeEncodeError: the encoding has no such character.
        """
        mark = codecs.BOM_UTF8 if self.raw.startswith(codecs.BOM_UTF8) else b""
        return mark + text.encode(self.encoding)


def read(path: str) -> File:
    """The content of the file at `path`.

    Raises:
        Unreadable: no such file, not allowed, or not text.
    """
    try:
        with open(path, "rb") as stream:
            raw = stream.read()
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise Unreadable("no such file or folder") from None
        raise Unreadable(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    return decode_json(raw) if is_notebook(path) else decode(raw)


def decode_json(raw: bytes) -> File:
    """What the bytes of a notebook's file mean. The format knows UTF-8 only.

    Raises:
        Unreadable: they are no UTF-8.
    """
    start = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
    try:
        return File(raw, raw[start:].decode("utf-8"), "utf-8")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        raise Unreadable(
            f"is no notebook: byte 0x{raw[start + error.start]:02x} in line {row} is not UTF-8"
        ) from None


def decode(raw: bytes) -> File:
    """What the bytes of a Python file mean, by the rules of Python itself.

    Raises:
        Unreadable: they are not text in the encoding that Python would use.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable("is UTF-16, which Python does not read: save it as UTF-8")
    if b"\0" in raw:
        raise Unreadable("contains null bytes, so it is no Python source: save it as UTF-8 text")
    encoding, start = "utf-8", 0
    if raw.startswith(codecs.BOM_UTF8):
        start = len(codecs.BOM_UTF8)
    if b"coding" in b"\n".join(raw[:2048].splitlines()[:2]):
        from tokenize import detect_encoding  # costs as much as the whole reading, and few files declare one

        try:
            encoding = detect_encoding(io.BytesIO(raw).readline)[0].removesuffix("-sig")
        except SyntaxError as error:
            raise Unreadable(f"declares an encoding that does not fit: {error.msg}") from None
    try:
        return File(raw, raw[start:].decode(encoding), encoding)
    except LookupError:  # a codec of Python, from bytes to bytes or text to text
        raise Unreadable(f"declares `{encoding}`, which is no encoding of text: save it as UTF-8") from None
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, start + error.start) + 1
        raise Unreadable(
            f"is not {encoding.upper()}: byte 0x{raw[start + error.start]:02x} in line {row}; save it as "
            "UTF-8, or declare its encoding in the first line, as in `# coding: latin-1`"
        ) from None


def display(path: str) -> str:
    """The path as it is printed: as it was given, without `./` and `..`."""
    return os.path.normpath(path)

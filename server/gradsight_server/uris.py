"""Names of documents: the editor's URIs, the analysis' file names, and nothing else.

A URI that names no file (an unsaved document, a cell) stays as it is and is its own file name.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from urllib.parse import quote, unquote, urlsplit

_DRIVE = re.compile(r"^/?[A-Za-z]:")


@lru_cache(4096)
def to_file(uri: str) -> str:
    """The path that a `file:` URI means; any other URI as it is."""
    if uri[:5].lower() != "file:":
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri
    path = unquote(parts.path)
    if parts.netloc and parts.netloc != "localhost":
        path = f"//{parts.netloc}{path}"
    elif os.name == "nt" and _DRIVE.match(path):
        path = path.lstrip("/")
    return os.path.normpath(path) if path else uri


def from_file(file: str) -> str:
    """The URI of a path; what is no absolute path is taken for a URI already."""
    if not os.path.isabs(file):
        return file
    path = file.replace(os.sep, "/")
    return "file://" + quote(path if path.startswith("/") else "/" + path, safe="/~")


def folder_of(uri: str) -> str | None:
    """The folder in which the file of a URI lies; None where it names no file."""
    file = to_file(uri)
    return os.path.dirname(file) if os.path.isabs(file) else None

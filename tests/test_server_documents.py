"""The documents room: what an editor's changes mean, in each of its encodings; and where a span is for it."""

from __future__ import annotations

import re

import pytest
from gradsight.text import Span
from gradsight_server import convert, uris
from gradsight_server.convert import Encoding
from gradsight_server.documents import MOST_PARSED, Document, Documents
from hypothesis import given, settings
from hypothesis import strategies as st

URI = "file:///somewhere/a.py"
WIDTHS = {
    Encoding.UTF8: lambda text: len(text.encode("utf-8", "surrogatepass")),
    Encoding.UTF16: lambda text: len(text.encode("utf-16-le", "surrogatepass")) // 2,
    Encoding.UTF32: len,
}
PIECES = st.sampled_from(
    [
        *(
            "a",
            " ",
            "    ",
            "é",
            "\u2028",
            "\u2029",
            "\x85",
            "\f",
            "\x1c",
            "\v",
            "😀",
            "\ud83d",
            "\ufeff",
            "\0",
        ),
        *(
            "\n",
            "\r\n",
            "\r",
            "\n\n",
            '"""',
            "(",
            "x = y.detach()\n",
            "def f():\r\n    return 1\r\n",
            "# 😀 \f\n",
        ),
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)
ENDS = re.compile(r"\r\n|\r|\n")


def rows(text: str) -> list[tuple[int, int]]:
    """Where each line of an editor begins and ends, without its end; the last may be empty."""
    out, start = [], 0
    for end in ENDS.finditer(text):
        out.append((start, end.start()))
        start = end.end()
    return [*out, (start, len(text))]


def position(text: str, offset: int, encoding: Encoding) -> dict[str, int]:
    """The editor's name for an offset; between \\r and \\n there is none: the line's end is meant."""
    for number, (start, end) in enumerate(rows(text)):
        following = rows(text)[number + 1][0] if number + 1 < len(rows(text)) else len(text) + 1
        if start <= offset < following:
            return {"line": number, "character": WIDTHS[encoding](text[start : min(offset, end)])}
    raise AssertionError(offset)


def meant(text: str, offset: int) -> int:
    """The offset that a position made of it means."""
    return offset - 1 if text[offset - 1 : offset + 1] == "\r\n" else offset


def open_document(text: str, encoding: Encoding) -> Document:
    return Document(URI, 1, text, encoding)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(Encoding), TEXTS, st.data())
def test_changes_come_to_what_the_editor_has(encoding: Encoding, text: str, data: st.DataObject) -> None:
    document = open_document(text, encoding)
    assert document.text == text
    for version in range(2, 8):
        if data.draw(st.booleans()):
            document.source.units  # noqa: B018  as an analysis does: from here on it is split anew in parts
        if data.draw(st.integers(0, 9)) == 0:
            document.release()
        offsets = [data.draw(st.integers(0, len(text))) for _ in range(2)]
        start, end = sorted(offsets)
        new = data.draw(TEXTS)
        where = {"start": position(text, start, encoding), "end": position(text, end, encoding)}
        text = text[: meant(text, start)] + new + text[meant(text, end) :]
        document.change(version, [{"range": where, "text": new}])
        assert document.text == text
        fresh = open_document(text, encoding).source
        assert (document.source.units, document.source.starts) == (fresh.units, fresh.starts)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(Encoding), TEXTS, st.data())
def test_places_go_to_the_editor_and_back(encoding: Encoding, text: str, data: st.DataObject) -> None:
    snapshot = open_document(text, encoding).snapshot()
    mark = int(text.startswith("\ufeff"))
    start, end = sorted(data.draw(st.integers(0, len(text) - mark)) for _ in range(2))
    made = convert.to_range(snapshot, Span(start, end))
    for where, offset in ((made.start, start), (made.end, end)):
        wanted = position(text, meant(text, offset + mark), encoding)
        assert {"line": where.line, "character": where.character} == wanted
    assert convert.from_range(snapshot, URI, made) == Span(
        meant(text[mark:], start), max(meant(text[mark:], start), meant(text[mark:], end))
    )


@pytest.mark.parametrize("encoding", Encoding)
def test_positions_outside_the_text_mean_the_nearest_place(encoding: Encoding) -> None:
    snapshot = open_document("ab\r\ncd", encoding).snapshot()
    for line, character, offset in ((0, 99, 2), (1, 99, 6), (7, 0, 6), (2**31, 2**31, 6), (0, 3, 2)):
        assert convert.from_position(snapshot, URI, convert.messages.Position(line, character)) == offset
    document = open_document("ab\r\ncd", encoding)
    far = {"start": {"line": 9, "character": 9}, "end": {"line": 99, "character": 0}}
    document.change(2, [{"range": far, "text": "!"}])
    assert document.text == "ab\r\ncd!"


def test_a_change_is_made_whole_or_not_at_all() -> None:
    document = open_document("abc", Encoding.UTF16)
    with pytest.raises((KeyError, TypeError)):
        document.change(2, [{"text": "new"}, {"range": {"start": {}}, "text": "x"}])
    with pytest.raises(TypeError):
        document.change(2, [{"text": 3}])
    assert (document.text, document.version) == ("abc", 1)


def test_snapshots_stay_as_they_were() -> None:
    document = open_document("abc", Encoding.UTF16)
    before = document.snapshot()
    assert document.snapshot() is before
    document.change(5, [{"text": "other"}])
    assert (before.version, before.source.text) == (1, "abc")
    assert (document.snapshot().version, document.snapshot().source.text) == (5, "other")
    document.release()
    assert document.snapshot().source.text == "other"


def test_few_documents_keep_their_lines() -> None:
    documents = Documents()
    for number in range(3 * MOST_PARSED):
        uri = f"file:///a{number}.py"
        documents.open({"textDocument": {"uri": uri, "text": "a\n", "version": 1}})
        documents.change({"textDocument": {"uri": uri, "version": 2}, "contentChanges": [{"text": "b\n"}]})
    kept = [unit for unit in documents if isinstance(unit, Document) and unit._source is not None]
    assert len(kept) == MOST_PARSED
    assert all(isinstance(unit, Document) and unit.text == "b\n" for unit in documents)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("file:///a/b%20c/%C3%A9.py", "/a/b c/é.py"),
        ("file://localhost/a.py", "/a.py"),
        ("untitled:Untitled-1", "untitled:Untitled-1"),
        ("vscode-notebook-cell:/a/b.ipynb#W0", "vscode-notebook-cell:/a/b.ipynb#W0"),
        ("file://[", "file://["),
        ("", ""),
    ],
)
def test_names_of_documents(uri: str, file: str) -> None:
    assert uris.to_file(uri) == file
    if uri.startswith("file:///"):
        assert uris.from_file(file) == uri

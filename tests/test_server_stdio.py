"""Frames: however a stream is cut into pieces, the same messages come out."""

from __future__ import annotations

from gradsight_server.stdio import Frames
from hypothesis import given, settings
from hypothesis import strategies as st

BODIES = st.binary(max_size=40) | st.just(b"\r\n\r\nContent-Length: 3\r\n\r\n")
HEADERS = st.sampled_from(
    [
        b"Content-Length: %d\r\n\r\n",
        b"content-length:%d \r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n",
        b"Content-Type: x\r\nContent-Length: %d\r\n\r\n",
        b"X-Nothing: 1\r\n\r\nContent-Length: %d\r\n\r\n",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(HEADERS, BODIES), max_size=6), st.lists(st.integers(1, 30), max_size=40))
def test_pieces_come_to_the_same_messages(messages: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(header % len(body) + body for header, body in messages)
    frames, found, at = Frames(), [], 0
    for cut in cuts:
        found += frames.feed(stream[at : at + cut]) if stream[at : at + cut] else []
        at += cut
    found += frames.feed(stream[at:]) if stream[at:] else []
    assert found == [body for _, body in messages]


def test_a_large_message_in_many_pieces() -> None:
    body = bytes(range(256)) * 4000
    frames, found = Frames(), []
    stream = b"Content-Length: %d\r\n\r\n%b" % (len(body), body) + b"Content-Length: 2\r\n\r\n{}"
    for at in range(0, len(stream), 1000):
        found += frames.feed(stream[at : at + 1000])
    assert found == [body, b"{}"]

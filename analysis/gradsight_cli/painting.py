"""Where the output goes: plain text, or colours on a terminal. Rich is loaded only for the latter."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO, Protocol

Piece = tuple[str, str]  # a text and the name of its style; "" is plain
Line = list[Piece]

_STYLES = {
    "error": "bold red",
    "warning": "bold yellow",
    "information": "bold blue",
    "hint": "bold cyan",
    "way": "blue",
    "file": "bold",
    "message": "bold",
    "gutter": "blue",
    "help": "cyan",
    "added": "green",
    "removed": "red",
    "hunk": "cyan",
}


class Printer(Protocol):
    """Prints lines."""

    def print(self, lines: Iterable[Line]) -> None:
        """Print each line."""


class Plain:
    """No colour and no escape sequence."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def print(self, lines: Iterable[Line]) -> None:
        """Print each line."""
        for line in lines:
            self._stream.write("".join(text for text, _ in line) + "\n")


class Colourful:
    """Colours by rich."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console

        self._console = Console(file=stream, force_terminal=True, color_system="standard", highlight=False)

    def print(self, lines: Iterable[Line]) -> None:
        """Print each line, unwrapped: whoever copies one gets it whole."""
        from rich.text import Text

        for line in lines:
            text = Text.assemble(*((piece, _STYLES.get(style, "")) for piece, style in line))
            self._console.print(text, soft_wrap=True)


def printer(stream: IO[str], colour: str) -> Printer:
    """What prints to the stream; `colour` is `auto`, `always` or `never`."""
    return Colourful(stream) if wants_colour(stream, colour) else Plain(stream)


def wants_colour(stream: IO[str], colour: str) -> bool:
    """`auto`: on a terminal that can, unless NO_COLOR is set (https://no-color.org)."""
    if colour != "auto":
        return colour == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def counted(number: int, thing: str) -> str:
    """`1 file`, `2 files`, `2 fixes`; information has no plural."""
    if number == 1 or thing == "information":
        return f"{number} {thing}"
    return f"{number} {thing}{'es' if thing.endswith('x') else 's'}"

"""Syntax of newer Pythons, recognised by an older one.

A claim is proved, not guessed: what the newer Python brought is taken out, and the rest must parse.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from gradsight.syntax import TOKEN, has_field, levels, masked, nested_line, parses

_Version = tuple[int, int]

_NAMED = re.compile(r"([ \t\f]*)(type(?=\s+\w+\s*[=\[])|(?:async\s+)?def\b|class\b)\s+(\w+)\s*")
_EXCEPT = re.compile(r"([ \t\f]*except\b\s*)(\*?)")
_STARRED = re.compile(r"\*\s*\w+\s*:\s*\*")  # `*args: *Shape`
_TEMPLATE = re.compile(r"(?<!\w)(?:[tT]([rR]?)|([rR])[tT])\Z")


def needed(
    code: str, parses: Callable[[str], bool], running: tuple[int, int] = sys.version_info[:2]
) -> str | None:
    """The Python newer than `running` that a broken text needs: "3.12". None if no newer one helps.

    `parses` says whether such a text parses here.
    """
    versions: list[_Version] = []
    for version, without in _CONSTRUCTS:
        if version > running:
            shorter, least = without(code)
            if shorter != code:
                versions.append(least)
                code = shorter
    if not versions or not parses(code):
        return None
    return "{}.{}".format(*max(versions))


def _without_templates(code: str) -> tuple[str, _Version]:
    result = code
    for token in reversed(list(TOKEN.finditer(code))):
        if token.lastgroup in ("string", "triple"):
            if found := _TEMPLATE.search(code, max(0, token.start() - 2), token.start()):
                prefix = "f" + (found[1] or found[2] or "")
                result = result[: found.start()] + prefix + result[token.start() :]
    return result, (3, 14)


def _without_several(code: str) -> tuple[str, _Version]:
    """`except A, B:` with brackets."""
    found = _EXCEPT.match(code)
    if found is not None:
        outside = [(place, each) for place, each, around in levels(masked(code)) if not around]
        colon = next((place for place, each in outside if each == ":"), -1)
        if colon > 0 and any(each == "," and place < colon for place, each in outside):
            code = f"{code[: found.end()]}({code[found.end() : colon]}){code[colon:]}"
    return code, (3, 14)


def _without_type_parameters(code: str) -> tuple[str, _Version]:
    found = _NAMED.match(code)
    least = 3, 12
    if found is None:
        return code, least
    rest = code[found.end() :]
    if rest.startswith("["):
        text = masked(rest)
        stop = next((place for place, each, around in levels(text) if each == "]" and not around), -1)
        if stop < 0 or not rest[1:stop].strip() or not parses(f"def _({rest[1:stop]}): pass"):
            return code, least
        if any(each == "=" and around == "[" for _, each, around in levels(text[:stop])):
            least = 3, 13  # the default of a parameter
        rest = rest[stop + 1 :]
    elif found[2] != "type":
        return code, least
    keyword = "" if found[2] == "type" else f"{found[2]} "
    return f"{found[1]}{keyword}{found[3]}{rest}", least


def _without_nesting(code: str) -> tuple[str, _Version]:
    """Plain strings for the f-strings that only a newer Python reads: quotes within quotes, backslashes."""
    line = nested_line(code) if has_field(code) else None
    if line is not None and line.whole:
        for string in reversed(line.strings):
            fields = (code[start:stop] for start, stop in string.fields)
            if not parses(code[string.start : string.stop]) and all(map(_is_expression, fields)):
                code = f"{code[: string.start]}''{code[string.stop :]}"
    return code, (3, 12)


def _is_expression(field: str) -> bool:
    field = re.sub(r"(?<![=!<>])=\s*\Z", "", field)  # f"{x = }"
    return bool(field.strip()) and parses(_without_nesting(f"({field}\n)")[0])


def _without_group(code: str) -> tuple[str, _Version]:
    """`except*` without its star."""
    found = _EXCEPT.match(code)
    return (f"{found[1]} {code[found.end() :]}" if found and found[2] else code), (3, 11)


def _without_stars(code: str) -> tuple[str, _Version]:
    """`x[*index]` and `*args: *Shape` without their stars."""
    if "*" in code:
        text, before = masked(code), ""
        stars = [found.end() - 1 for found in _STARRED.finditer(text)]
        for place, each, around in levels(text):
            if each == "*" and around.endswith("[") and before in ("[", ","):
                stars.append(place)
            before = before if each in " \t\r\n" else each
        for place in stars:
            code = f"{code[:place]} {code[place + 1 :]}"
    return code, (3, 11)


# The last version that brought some of it, and what takes it out of a text: the text without it, and the
# version that it needed. What may take a star for the wrong one stands last.
_CONSTRUCTS: tuple[tuple[_Version, Callable[[str], tuple[str, _Version]]], ...] = (
    ((3, 14), _without_templates),
    ((3, 14), _without_several),
    ((3, 13), _without_type_parameters),
    ((3, 12), _without_nesting),
    ((3, 11), _without_group),
    ((3, 11), _without_stars),
)

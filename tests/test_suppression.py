"""Comments that silence, and those that silence nothing."""

from __future__ import annotations

import pytest
from gradsight.finding import Finding, Severity, apply
from gradsight.intentions import REASONS
from gradsight.rules import RULES
from gradsight.suppression import fix, ignore, suppress, suppressions
from gradsight.text import Source, Span
from hypothesis import given
from hypothesis import strategies as st


def _found(source: Source, text: str, code: str = "GS102") -> Finding:
    start = source.text.index(text)
    return Finding(code, "name", Severity.WARNING, "message", source.file, Span(start, start + len(text)))


def _left(text: str, *wanted: tuple[str, str]) -> list[tuple[str, str]]:
    """Code and quoted text of what is left, where each of `wanted` (quoted text, code) was found."""
    source = Source("a.py", text)
    left = suppress(source, [_found(source, *each) for each in wanted])
    return [(finding.code, source.slice(finding.where)) for finding in left]


HIT = ("x.detach()", "GS102")


@pytest.mark.parametrize(
    "comment",
    [
        "# gradsight: ignore",
        "# gradsight: ignore[GS102]",
        "#gradsight:ignore[GS102]",
        "# gradsight: ignore [ GS103,GS102 ] because",
        "# gradsight: ignore[gs102]",
        "# gradsight: ignore[GS1]",
        "# noqa  # gradsight: ignore[GS102]",
        "# it's \"quoted  # gradsight: ignore",
    ],
)
def test_a_comment_silences_its_line(comment: str) -> None:
    left = _left(f"y = x.detach()  {comment}\n", HIT)
    assert ("GS102", "x.detach()") not in left


@pytest.mark.parametrize(
    "line",
    [
        "y = x.detach()  # gradsight: ignore[GS103]",
        "y = x.detach()  # gradsight ignore",
        "y = x.detach()  # gradsight: ignored",
        "y = x.detach(), '# gradsight: ignore'",
        'y = x.detach(), "\\"# gradsight: ignore"',
        "y = x.detach(), '''\n# gradsight: ignore'''",
        "y = x.detach(), '''# gradsight: ignore'''",
        "y = x.detach(), rb'\\'  # gradsight: ignore'",
        "y = x.detach()\n# gradsight: ignore",
        "# gradsight: ignore\ny = x.detach()",
        "y = x.detach()  # gradsight: ignore[]",
    ],
)
def test_these_silence_nothing(line: str) -> None:
    assert ("GS102", "x.detach()") in _left(line + "\n", HIT)


@pytest.mark.parametrize(
    "before", ["z = '''never closed\n", 'z = "never closed\n', "z = (\n", "def f(:\n", "'''a''' '\n"]
)
def test_a_broken_line_above_does_not_hide_a_comment(before: str) -> None:
    assert _left(before + "y = x.detach()  # gradsight: ignore\n", HIT) == []


def test_any_line_of_the_finding_will_do() -> None:
    text = "y = f(\n    x\n    .detach()  # gradsight: ignore[GS102]\n)\n"
    assert _left(text, ("x\n    .detach()", "GS102")) == []


def test_only_the_named_rules_fall_silent() -> None:
    text = "y = float(x.detach())  # gradsight: ignore[GS103]\n"
    assert _left(text, HIT, ("float(x.detach())", "GS103")) == [HIT[::-1]]


@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        ("y = 1  # gradsight: ignore", "# gradsight: ignore"),
        ("y = 1  # gradsight: ignore[GS102] why", "# gradsight: ignore[GS102]"),
        ("y = x.detach()  # gradsight: ignore[GS102, GS103]", "GS103"),
        ("y = x.detach()  # gradsight: ignore[GS103, GS102]", "GS103"),
        ("# gradsight: ignore", "# gradsight: ignore"),
    ],
)
def test_what_silences_nothing_is_reported(line: str, quoted: str) -> None:
    found = [HIT] if "x.detach" in line else []
    assert _left(line + "\n", *found) == [("GS003", quoted)]


@pytest.mark.parametrize("comment", ["# gradsight: ignore[GS003]", "# gradsight: ignore[GS102, GS003]"])
def test_the_report_can_be_silenced_too(comment: str) -> None:
    assert _left(f"y = 1  {comment}\n") == []


@pytest.mark.parametrize(
    ("line", "mended"),
    [
        ("y = x.detach()  # gradsight: ignore[GS102, GS103]", "y = x.detach()  # gradsight: ignore[GS102]"),
        ("y = x.detach()  # gradsight: ignore[GS103, GS102]", "y = x.detach()  # gradsight: ignore[GS102]"),
        (
            "y = x.detach()  # gradsight: ignore[GS1x,GS103,GS102,GS4]",
            "y = x.detach()  # gradsight: ignore[GS102]",
        ),
        ("y = x.detach()  # gradsight: ignore[GS103] because", "y = x.detach()"),
        ("y = x.detach()  # gradsight: ignore[GS103]  # noqa", "y = x.detach()  # noqa"),
        ("y = x.detach()  # noqa  # gradsight: ignore[GS103]", "y = x.detach()  # noqa"),
        ("y = x.detach()\n  # gradsight: ignore why", "y = x.detach()\n"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\nz = 1"])
def test_the_fix_takes_out_what_is_unused(line: str, mended: str, end: str) -> None:
    text = line + end
    while True:
        source = Source("a.py", text)
        unused = [each for each in suppress(source, [_found(source, *HIT)]) if each.code == "GS003"]
        if not unused:
            break
        (mend,) = fix(source, unused[0])
        text = apply(text, mend.edits)
    assert text == mended + end


def test_nothing_is_changed_without_comments() -> None:
    source = Source("a.py", "y = x.detach()\n")
    found = (_found(source, *HIT),)
    assert suppress(source, found) == found


@given(st.lists(st.sampled_from([*"'\"#\\\n\r \tfr([=gx", "# gradsight: ignore", "'''", '"""', "[GS102]"])))
def test_any_text_can_be_scanned(pieces: list[str]) -> None:
    text = "".join(pieces)
    source = Source("a.py", text)
    comments = suppressions(source)
    for comment in comments:
        assert source.slice(comment.where).startswith("#")
        assert source.row_column(comment.where.start)[0] == comment.row
    assert len(suppress(source, [])) <= sum(max(1, len(comment.codes)) for comment in comments)


@pytest.mark.parametrize(
    ("before", "quoted", "after"),
    [
        ("y = x.detach()\n", "x.detach()", "y = x.detach()  # gradsight: ignore[GS102]\n"),
        ("y = x.detach()  \r\n", "x.detach()", "y = x.detach()  # gradsight: ignore[GS102]\r\n"),
        ("y = (x\n    .detach())", "x\n    .detach()", "y = (x\n    .detach())  # gradsight: ignore[GS102]"),
        ("y = x.detach()  # why\n", "x.detach()", "y = x.detach()  # why  # gradsight: ignore[GS102]\n"),
        (
            "y = x.detach()  # gradsight: ignore[GS105]\n",
            "x.detach()",
            "y = x.detach()  # gradsight: ignore[GS105, GS102]\n",
        ),
    ],
)
def test_ignore_here_writes_a_comment_that_silences(before: str, quoted: str, after: str) -> None:
    source = Source("a.py", before)
    finding = _found(source, quoted)
    fix = ignore(source, finding)
    assert fix is not None
    assert apply(source.text, fix.edits) == after
    assert (
        suppress(Source("a.py", after), (_found(Source("a.py", after), quoted),)) == () or "GS105" in before
    )


@pytest.mark.parametrize("text", ["y = x.detach() + \\\n    1\n", 'y = f(x.detach(), """a\nb""")\n'])
def test_no_comment_where_none_can_stand(text: str) -> None:
    source = Source("a.py", text)
    assert ignore(source, _found(source, "x.detach()")) is None


def test_each_rule_has_a_reason_for_which_it_may_be_meant_unless_it_speaks_of_what_raises() -> None:
    raising = {"GS202", "GS207"}
    assert REASONS.keys() == {rule.code for rule in RULES} - raising


@pytest.mark.parametrize("why", sorted(set(REASONS.values())))
def test_a_comment_with_a_reason_is_one_comment(why: str) -> None:
    source = Source("a.py", "y = x.detach()  # noqa: E501\n")
    made = ignore(source, _found(source, "x.detach()"), why)
    assert made is not None
    text = apply(source.text, made.edits)
    assert text == f"y = x.detach()  # noqa: E501  # gradsight: ignore[GS102] intended: {why}\n"
    assert _left(text, HIT) == []
    # What it silences gone, all of it goes again.
    (unused,) = suppress(Source("a.py", text), [])
    (removing,) = fix(Source("a.py", text), unused)
    assert apply(text, removing.edits) == source.text

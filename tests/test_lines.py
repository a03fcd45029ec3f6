"""Logical lines: parsed alone they say what a whole file's `ast` says; a broken one costs itself alone."""

from __future__ import annotations

import ast
import gc
import random
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradsight.lines import Line, next_line
from gradsight.outline import Block, nest, outline
from gradsight.syntax import physical_lines
from gradsight.text import Source
from line_cases import expressions, expressions_of


def line(text: str) -> Line:
    (only,) = Source("a.py", text).units
    return only


def test_headers_have_a_body_that_is_not_there() -> None:
    for text, kind in [
        ("if c:\n", ast.If),
        ("    for i in x:  # c\n", ast.For),
        ("async for i in x:\n", ast.AsyncFor),
        ("\twith a as b, c:\n", ast.With),
        ("def f(a, *, b: int = 1) -> T:\n", ast.FunctionDef),
        ("async def f(\n    a,\n):\n", ast.AsyncFunctionDef),
        ("class C(B):\n", ast.ClassDef),
        ("while x:\n", ast.While),
        ("try:\n", ast.Try),
        ("  match x, y:\n", ast.Match),
        ("@d(1)\n", ast.FunctionDef),
    ]:
        found = line(text)
        assert found.error is None, text
        assert isinstance(found.nodes[0], kind)
        assert found.header == (not text.startswith("@"))


def test_clauses_have_their_part_alone() -> None:
    test = line("    elif a.b:\n").nodes[0]
    assert isinstance(test, ast.If)
    assert ast.unparse(test.test) == "a.b"
    handler = line("except (A, B) as e:\n").nodes[0]
    assert isinstance(handler, ast.ExceptHandler)
    assert handler.name == "e"
    case = line("    case {'a': [x, *_]} if x:\n").nodes[0]
    assert isinstance(case, ast.match_case)
    assert case.guard is not None
    one = line("    case Point(x=0): y = 1\n")
    assert one.role == "case"
    assert not one.header
    assert [type(each) for each in line("else: a = 1; b = 2\n").nodes] == [ast.Assign, ast.Assign]
    assert [type(each) for each in line("  finally: f()\n").nodes] == [ast.Expr]
    assert isinstance(line("else:\n").nodes[0], ast.Pass)


def test_soft_keywords_are_names_where_they_can_be_nothing_else() -> None:
    for text in (
        "match = 1\n",
        "    case = match(x)\n",
        "match[1:2] = case\n",
        "match: int\n",
        "type = match\n",
    ):
        found = line(text)
        assert (found.error, found.role, found.header) == (None, "", False)


def test_statements_on_one_line() -> None:
    found = line("if a: b = 1; c = 2\n")
    assert not found.header
    assert isinstance(found.nodes[0], ast.If)
    assert len(found.nodes[0].body) == 2
    assert len(line("  a = 1; b = 2\n").nodes) == 2
    assert isinstance(line("try: x = 1\n").nodes[0], ast.Try)


def test_blank_space_is_no_code() -> None:
    for text in ("\n", "   \n", "\t# c\n", "\f\n", "\\\n\n", "  \\\n  # c\n"):
        assert not line(text).code, text
    assert Source("a.py", "\u2028\n").units[0].error is not None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x = 1 + \\\n 2\ny\n", 2),
        ("x = 1 \\\n\ny\n", 2),
        ("x = 1 \\\n  # c\ny\n", 2),
        ("if y:\n\\\n    x = 1\nz\n", 3),
        ("if x:\n  \\\n      y = 1\n  z\n", 3),
        ("if x:\\\n\n    y\n", 2),
        ("if x: \\\n    y\nz\n", 2),
        ("if x:\n\t\\\nelse_ = 1\n", 2),
        ("if x:\n    y\n\\\nelse:\n    z\n", 4),
        ("x = 'a\\\n' + \"b\\\r\nc\"\ny\n", 2),
    ],
)
def test_lone_backslashes_are_blank_space(text: str, count: int) -> None:
    tree = ast.parse(text)
    for ends in ("\n", "\r\n", "\r"):
        source = Source("a.py", text.replace("\r\n", "\n").replace("\n", ends))
        assert [unit.error for unit in source.units] == [None] * count
        assert expressions_of(source) == expressions(tree)
        assert len(nest(source.units)) == len(tree.body)


def test_only_the_texts_end_behind_a_backslash_is_an_error() -> None:
    assert line("x = 1 \\\n").error is not None
    assert line("x = 1 \\\n \n").error is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="f-strings nest from Python 3.12 on")
@pytest.mark.parametrize(
    "text",
    [
        'x = f"{a["("]}"\n',
        'x = f"{a["#"]}"  # "\n',
        'f(f"{d["["]}",\n  1)\n',
        'if f"{a[":"]}":  # c\n',
        "x = f'{f'{f'{1}'}'}' + f'''{f'''{'}'}'''}'''\n",
        'x = f"{\n    a["b"]  # c\n}"\n',
        'x = f"{x:{y["z"]}}{{{"}"}}}" rf"\\{a["b"]}"\n',
        'x = f"\\N{DIGIT ONE}{a["\\N{DIGIT ONE}"]!r:>{w["("]}}"\n',
        'x = f"{lambda_ != "a"} {x = }"\n',
    ],
)
def test_f_strings_with_quotes_in_quotes(text: str) -> None:
    source = Source("a.py", f"{text}y = 2\n")
    assert [unit.error for unit in source.units] == [None, None]
    assert source.units[0].text == text


def test_an_f_string_that_does_not_end_costs_its_line() -> None:
    for broken in ('x = f"{', 'x = f"{a["', "x = f'{a}", 'print(f"{lo")', 'x = f"{f"{f"{', 'f"{a["("'):
        source = Source("a.py", f"a = 1\n{broken}\nb = 2\nc = 3\n")
        assert [unit.error is None for unit in source.units] == [True, False, True, True], broken


@pytest.mark.parametrize(
    ("code", "least"),
    [
        ("type X = int", "3.12"),
        ("    type X[T] = list[T]", "3.12"),
        ("type X[T = int] = list[T]", "3.13"),
        ("def f[T: (int, str), *Ts, **P](x: T = 1) -> T:", "3.12"),
        ("async def f[T](x): return 1", "3.12"),
        ("class C[T=int](B):", "3.13"),
        ("except* ValueError as e:", "3.11"),
        ("except*(A, B):", "3.11"),
        ("  except A, B:", "3.14"),
        ("except* A, B: pass", "3.14"),
        ('x = t"a{b}" + rt"c"', "3.14"),
        ('x = f"{a["b"]}" + f"{c!r:>{w["x"]}}"', "3.12"),
        ("x = f'{\"\\n\".join(a)}'", "3.12"),
        ('x = f"{a["b"] = }"', "3.12"),
        ("x = a[*b, 1]", "3.11"),
        ("def f(self, *args: *Ts) -> None:", "3.11"),
    ],
)
def test_what_a_newer_python_brought(code: str, least: str) -> None:
    major, minor = map(int, least.split("."))
    found = line(code + "\n")
    if sys.version_info >= (major, minor):
        assert found.error is None
    else:
        assert (found.nodes, found.needs) == ((), least)
    assert line("x = 1\n").needs is None


@pytest.mark.parametrize(
    "code",
    [
        "x = (",
        "def f[T(x):",
        "def f[T](x:",
        "def f[](x):",
        "type X =",
        "except A, B",
        'x = f"{x +}"',
        'x = f"{a["b"] +}"',
        'x = f"{a["b]}"',
        'x = t"',
        "print 'a'",
        "x = a[*b",
        "class C[T]",
        "x = = 3",
        "typ X = int",
    ],
)
def test_an_error_in_every_python_needs_no_newer_one(code: str) -> None:
    found = line(code + "\n")
    assert found.error is not None
    assert found.needs is None


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("x = foo(", ("x",)),
        ("    a, (b, *c) = d = foo(1", ("a", "b", "c", "d")),
        ("self.x = y.", ("self.x",)),
        ("x[i] = (", ("x",)),
        ("x: Tensor = foo(a=1, b=", ("x",)),
        ("x += (", ("x",)),
        ("x == (", ()),
        ("foo(a=1", ()),
        ("if c: x = foo(", ("x",)),
        ("if a == b(", ()),
        ("for i, (j, k) in enumerate(:", ("i", "j", "k")),
        ("with open(f) as g, h( as (i):", ("g",)),
        ("import a.b as c, d,,", ("c", "d")),
        ("from m import (x as y, z", ("y", "z")),
        ("def f(x, y=:", ("f",)),
        ("class C(x.:", ("C",)),
        ("if (n := f( :", ("n",)),
        ("except A( as e:", ("e",)),
        ("x = 'y = 2", ("x",)),
        ("return x.", ()),
    ],
)
def test_a_broken_line_says_what_it_assigns(code: str, names: tuple[str, ...]) -> None:
    found = line(code + "\n")
    assert found.error is not None
    assert found.binds == names


def test_errors_have_a_place_in_their_line() -> None:
    found = line("    x = = 3\n")
    assert found.error_at == (0, 8)
    assert line("x = (1,\n   'é' é é)\n").error_at[0] == 1
    for text in (
        "x = (",
        "def f(:\n",
        "else\n",
        "a\x00b\n",
        "  \x00\n",
        "x = \ud800\n",
        "if x:: \n",
        "@\n",
        "try x:\n",
    ):
        row, column = line(text).error_at
        assert 0 <= column <= len(physical_lines(text)[row])


# A line that is not finished, put into a function: everything around it stays as it is.
BROKEN = [
    "x = foo(",
    "x = foo(a, [",
    "x = {",
    'x = "abc',
    "x = 'abc",
    "x = foo('a",
    "x = a.",
    "if x",
    "for x in",
    "def g(",
    "x = = 1",
    ")",
    "x = f(a, b",
    "return (",
    "with x(",
    "@",
    "x = '''abc'''''' ",
    "lambda",
    'f"{x',
    "\x00",
    "x = (\\",
]
FUNCTION = '''\
def before(x):
    y = x.detach()
    return y


def train(model, loader):
    """Docs."""
    for x, y in loader:
        loss = model(x)
{}
        loss.backward()
        model.step(loss, [
            x,
        ])
    return {{"a": 1}}


@torch.no_grad()
def after(x):
    return x
'''


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_costs_itself_alone(broken: str) -> None:
    whole = Source("a.py", FUNCTION.format("        pass"))
    source = Source("a.py", FUNCTION.format(" " * 8 + broken))
    assert whole.starts == source.starts
    different = [k for k, (a, b) in enumerate(zip(whole.units, source.units, strict=True)) if a is not b]
    assert [source.starts[k] for k in different] == [9]
    assert outline(source.units).names == ("before", "train", "after")


@pytest.mark.parametrize("behind", ["f'{x}'", "if x else y", "in x", "r'\\d'"])
def test_letters_right_behind_a_long_string(behind: str) -> None:
    source = Source("a.py", f'x = """a\nb\n"""{behind}\ny = 1\n')
    assert [unit.error for unit in source.units] == [None, None]


def test_an_open_docstring_leaves_the_lines_above_and_the_code_behind() -> None:
    whole = Source("a.py", FUNCTION.format("        pass"))
    source = Source("a.py", FUNCTION.format('        """'))
    above = [unit for start, unit in zip(whole.starts, whole.units, strict=True) if start < 6]
    assert list(source.units[: len(above)]) == above
    # The quotes opened below "Docs" are those of a new text; what follows the broken line is code again.
    assert source.units[-1] is whole.units[-1]
    assert any(unit.text == "    y = x.detach()\n" for unit in source.units)


def test_lines_that_cannot_be_python_raise_nothing() -> None:
    deep = [
        "x = " + "(" * 2000 + ")" * 2000,
        "x = " + "[" * 2000,
        "y = " + "-" * 3000 + "1",
        "z = " + "{" * 300 + "a",
        "w = f'" + "{" * 999,
        "\x00",
        "a = '\x00'",
        "\ufeffx",
        "\u2028",
        "é = \ud800",
        "x = \x0b",
    ]
    source = Source("a.py", "".join(f"{each}\nok = 1\n" for each in deep))
    assert "".join(unit.text for unit in source.units) == source.text
    wrong = [unit for unit in source.units if unit.error]
    assert len(wrong) >= len(deep) - 1  # a byte order mark inside a text is white space to some
    assert sum(unit.text == "ok = 1\n" for unit in source.units) == len(deep)
    nest(source.units)


def test_tabs_and_spaces_nest_by_their_columns() -> None:
    source = Source("a.py", "if a:\n\tb\n        c\n    \td\n\f    e\n")
    (only,) = nest(source.units)
    assert [each[0].line.text.strip() for each in only[0].block] == ["b", "c", "d", "e"]


def test_equal_texts_are_one_line_as_long_as_it_lives() -> None:
    first = Source("a.py", "same = here\nother = 1\n").units[0]
    assert Source("b.py", "same = here\n").units[0] is first


def test_interning_is_bounded() -> None:
    def lines() -> int:
        gc.collect()
        return sum(isinstance(each, Line) for each in gc.get_objects() if type(each) is Line)

    for _ in range(2):
        before = lines()
        for k in range(40):
            assert Source("a.py", f"x = '{'a' * 100_000}{random.random()}{k}'\n").units[0].error is None
    assert lines() - before < 25


def test_parsing_is_silent_and_leaves_the_filters_alone() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        assert line(r"x = '\d' + 1if y else 2" + "\n").code
        assert warnings.filters == before
    assert said == []


@pytest.mark.parametrize(
    "unit",
    [
        "x = (\n",
        '  """\n',
        "x = '''Doc\n",
        'x = f"{a["\n',
        'f"""{\n',
        "\\\n",
        '"abc\\\n',
        ") + (\n",
        "x = [\n",
        "else:\n",
        "@d\n",
        'x = """Doc\n',
        "f(a\n",
        "    x.y = (\n",
        "def f(\n",
        "{a: (b\n",
        "x = 1\n",
    ],
)
def test_broken_texts_are_read_in_linear_time(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the text, about twice the physical lines looked at."""

    class Counting(list[str]):
        looks = 0

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            result = super().__getitem__(key)
            Counting.looks += len(result) if isinstance(key, slice) else 1
            return result

    def looked(count: int) -> int:
        lines, at, Counting.looks = Counting(physical_lines(unit * count)), 0, 0
        while at < len(lines):
            at += next_line(lines, at)[0].count
        return Counting.looks

    assert looked(4000) <= 2.5 * looked(2000)


def corpus(seed: int, count: int) -> Iterator[tuple[Path, str, ast.Module]]:
    """Valid files of the standard library and of what is installed."""
    paths = sysconfig.get_paths()
    files = sorted({*Path(paths["stdlib"]).rglob("*.py"), *Path(paths["purelib"]).rglob("*.py")})
    random.Random(seed).shuffle(files)
    for path in files:
        try:
            text = path.read_bytes().decode("utf-8-sig")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            continue
        yield path, text, tree
        count -= 1
        if not count:
            return


def nesting_of(tree: ast.Module, lines: list[str]) -> set[tuple[int, int]]:
    """Rows of statements, each with the row of the statement around it (`elif` counts to its `if`)."""
    found: set[tuple[int, int]] = set()

    def inside(node: ast.AST, row: int) -> None:
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            for each in getattr(node, part, ()):
                if not isinstance(each, ast.stmt):
                    inside(each, row)
                elif (
                    part == "orelse"
                    and isinstance(each, ast.If)
                    and lines[each.lineno - 1].lstrip().startswith("elif")
                ):
                    inside(each, row)
                else:
                    found.add((each.lineno, row))
                    inside(each, each.lineno)

    inside(tree, 0)
    return found


def nested_rows(block: Block, source: Source, row: int = 0) -> Iterator[tuple[int, int]]:
    for statement in block:
        first = statement[0]
        own = first.line.nodes[0].lineno + source.starts[first.at] - first.line.shift  # type: ignore[attr-defined]
        yield own, row
        for clause in statement:
            yield from nested_rows(clause.block, source, own)


def functions_of(body: list[ast.stmt], before: str = "") -> Iterator[tuple[str, int]]:
    for each in body:
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield before + each.name, each.lineno
        elif isinstance(each, ast.ClassDef):
            yield from functions_of(each.body, f"{before}{each.name}.")
        else:
            for part in ("body", "handlers", "orelse", "finalbody", "cases"):
                for inner in getattr(each, part, ()):
                    yield from functions_of([inner] if isinstance(inner, ast.stmt) else inner.body, before)


def check_corpus(seed: int, count: int) -> None:
    files = rows = found = 0
    for path, text, tree in corpus(seed, count):
        source = Source(str(path), text)
        expected = expressions(tree)
        assert [unit.text for unit in source.units if unit.error] == [], path
        assert expressions_of(source) == expected, path
        assert set(nested_rows(nest(source.units), source)) <= nesting_of(tree, list(source.physical)), path
        seen = outline(source.units)
        headers = [source.starts[seen.skeleton.at[header]] for header in seen.headers]
        assert sorted(zip(seen.names, headers, strict=True)) == sorted(
            (name, row - 1) for name, row in functions_of(tree.body)
        ), path
        files, rows, found = files + 1, rows + len(source.physical), found + len(expected)
    print(f"{files} files, {rows} lines, {found} expressions equal to ast.parse's")
    assert files == count


def test_lines_say_what_the_whole_file_says() -> None:
    check_corpus(seed=5, count=40)


@pytest.mark.slow
def test_lines_say_what_the_whole_file_says_in_many_files() -> None:
    check_corpus(seed=6, count=1200)

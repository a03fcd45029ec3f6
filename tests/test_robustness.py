"""The analysis cannot fail, whatever the text: no exception, no bug of a rule, and it comes to an end."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradsight.rules
import pytest
from gradsight.engine import Engine, Findings
from gradsight.finding import Finding
from gradsight.text import Source

HEAD = "import torch\nfrom torch import nn\n\n"
PARAMETER = "w = nn.Parameter(torch.ones(3))\n"


def check(text: str) -> Findings:
    """The findings of a text. A bug fails the test."""

    def loud(where: str, error: BaseException) -> None:
        raise AssertionError(f"a bug inside {where}: {error!r}") from error

    return Engine(loud).analyze(Source("program.py", text))


def codes(text: str) -> list[str]:
    return [finding.code for finding in check(text).findings]


def lost(lines: str = "") -> str:
    """A function that loses its gradient in its last statement but one, with some lines between."""
    return (
        f"{HEAD}def train(data):\n    net = nn.Linear(3, 1)\n"
        "    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        f"    prediction = net(data)\n{lines}    loss = prediction.detach().mean()\n    loss.backward()\n"
    )


# -- odd texts


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "\0", "\f", "   ", "#", "\\", "\ud800", "import torch"])
def test_texts_with_nothing_in_them(text: str) -> None:
    assert {finding.code for finding in check(text).findings} <= {"GS001"}


def test_a_byte_order_mark_is_no_error_and_in_no_span() -> None:
    plain, marked = check(lost()), check("\ufeff" + lost())
    assert marked == plain
    assert [finding.code for finding in plain.findings] == ["GS102"]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends(end: str) -> None:
    text = lost().replace("\n", end)
    (finding,) = check(text).findings
    assert text[finding.where.start : finding.where.end] == "prediction.detach()"


def test_null_bytes() -> None:
    assert codes(lost("    x = 1\0\n")) == ["GS001", "GS102"]


@pytest.mark.parametrize(
    "broken",
    [
        "x = (1,",
        "x = = 1",
        "print('",
        'text = """',
        "for x in",
        "x = [1, 2",
        "def",
        "class:",
        "f(x))",
        "if x",
        "yield = 3",
        "é = (",
    ],
)
def test_a_broken_statement_costs_itself_alone(broken: str) -> None:
    found = check(lost(f"    {broken}\n"))
    (finding,) = (finding for finding in found.findings if finding.code == "GS102")
    assert lost(f"    {broken}\n")[finding.where.start : finding.where.end] == "prediction.detach()"
    assert [finding.code for finding in found.findings].count("GS001") == 1


NEWER = {
    (3, 11): "try:\n        pass\n    except* ValueError:\n        pass",
    (3, 12): "type Row = list[float]",
    (3, 14): "label = t'{data}'",
}


@pytest.mark.parametrize(("version", "line"), NEWER.items(), ids=str)
def test_syntax_of_a_newer_python(version: tuple[int, int], line: str) -> None:
    if sys.version_info >= version:
        assert codes(lost(f"    {line}\n")) == ["GS102"]
        return
    found = check(lost(f"    {line}\n"))
    assert [finding.code for finding in found.findings] == ["GS002", "GS102"]
    assert "{}.{}".format(*version) in found.findings[0].message


# -- long and deep texts


@pytest.mark.parametrize("functions", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_fifty_thousand_lines(functions: int) -> None:
    noise = "".join(f"    noise_{n % 97} = torch.randn(3) + {n}\n" for n in range(1000))
    text = "".join(lost(noise).replace("train", f"train_{n}") + "\n\n" for n in range(functions))
    assert codes(text) == ["GS102"] * functions


def test_a_text_too_long_to_follow_is_silent() -> None:
    # One function has so many statements that it is given up; the other is not lost with it.
    noise = "".join(f"    noise = torch.randn(3) + {n}\n" for n in range(12_000))
    assert codes(lost(noise) + "\n\n" + lost().replace("train", "other")) == ["GS102"]


def test_hundreds_of_classes_and_functions() -> None:
    text = HEAD + "".join(
        f"class Net{n}(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"        self.fc = nn.Linear(3, 3)\n\n    def forward(self, x):\n"
        f"        return self.fc(x).relu()\n\n\ndef predict_{n}(data):\n    net = Net{n}()\n"
        f"    return [net(x).detach().sum().item() for x in data]\n\n\npredict_{n}([torch.randn(3)])\n"
        for n in range(400)
    )
    assert codes(text) == []


@pytest.mark.parametrize(("opening", "closing"), ["()", "[]", "{}"])
def test_two_thousand_nested_brackets(opening: str, closing: str) -> None:
    assert codes(lost(f"    x = {opening * 2000}1{closing * 2000}\n")) == ["GS001", "GS102"]
    assert "GS102" in codes(lost(f"    x = {opening * 2000}\n"))


def nested(header: str, depth: int) -> str:
    rows = [" " * n + header.format(n) for n in range(depth)]
    return HEAD + PARAMETER + "\n".join(rows) + "\n" + " " * depth + "w.detach().sum().backward()\n"


@pytest.mark.parametrize(
    "header",
    [
        "for i{0} in range(2):",
        "while w.sum() > {0}:",
        "if w.sum() > {0}:",
        "with torch.enable_grad():",
        "try:",
        "class A{0}:",
        "def f{0}():",
    ],
)
@pytest.mark.parametrize("depth", [10, 90])
def test_deeply_nested_blocks(header: str, depth: int) -> None:
    check(nested(header, depth))


def test_branches_do_not_multiply() -> None:
    branch = "    if torch.rand(1) > 0.{0}:\n        w = w * 2\n    else:\n        w = w + torch.rand(3)\n"
    text = (
        HEAD
        + PARAMETER
        + "def f(w):\n"
        + "".join(branch.format(n) for n in range(60))
        + "    return w\n\nf(w).sum().backward()\n"
    )
    assert codes(text) == []


@pytest.mark.parametrize("depth", [5, 60, 1000])
def test_deeply_nested_calls(depth: int) -> None:
    check(HEAD + PARAMETER + "x = " + "torch.relu(" * depth + "w" + ")" * depth + "\nx.sum().backward()\n")
    check(HEAD + PARAMETER + "x = w" + ".relu()" * depth + "\nx.sum().backward()\n")
    check(HEAD + PARAMETER + "x = w" + " + w" * depth + "\nx.sum().backward()\n")


@pytest.mark.parametrize("count", [3, 300])
def test_mutually_recursive_functions(count: int) -> None:
    text = HEAD + PARAMETER
    for n in range(count):
        others = f"f{(n + 1) % count}(x) + f{(n + 7) % count}(x * 2) + f{n * 3 % count}(x.detach())"
        text += f"def f{n}(x):\n    return {others}\n\n\n"
    check(text + "f0(w).sum().backward()\n")


def test_functions_whose_calls_multiply() -> None:
    text = HEAD + PARAMETER
    for n in range(24):
        text += f"def f{n}(x):\n    return f{n + 1}(x) + f{n + 2}(x * 2)\n\n\n"
    check(text + "def f24(x):\n    return x\n\n\ndef f25(x):\n    return x\n\n\nf0(w).sum().backward()\n")


def test_a_function_of_five_thousand_statements() -> None:
    rows = (f"    {'prediction' if n % 50 == 0 else f'seen_{n}'} = prediction * {n}\n" for n in range(5000))
    assert codes(lost("".join(rows))) == ["GS102"]


def test_huge_literals() -> None:
    numbers = ", ".join(map(str, range(20_000)))
    rows = "".join(f'        "name {n}": [{n}, {n}.5, None],\n' for n in range(5000))
    assert codes(lost(f"    table = [{numbers}]\n    rows = {{\n{rows}    }}\n")) == ["GS102"]


def test_a_class_deriving_from_itself_or_in_a_ring() -> None:
    text = (
        HEAD
        + "class A(B, A):\n    def forward(self, x):\n        return super().forward(x)\n\n\n"
        + "class B(A):\n    pass\n\n\n"
    )
    check(text + "B()(torch.ones(1)).sum().backward()\n")
    assert "GS102" in codes(text + lost())


# -- bugs


def test_a_rule_that_raises_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_that_raises(queries: object) -> Iterator[Finding]:
        raise ZeroDivisionError("a bug")

    both = lost() + "\n\nlayer = nn.Linear(2, 2)\nlayer(torch.ones(1, 2)).backward()\n"
    assert sorted(set(codes(both))) == ["GS102", "GS202"]
    rules = gradsight.rules.RULES
    monkeypatch.setattr(
        gradsight.rules,
        "RULES",
        type(rules)(
            replace(rule, check=check_that_raises) if rule.code == "GS102" else rule for rule in rules
        ),
    )
    bugs: list[tuple[str, BaseException]] = []

    def report(where: str, error: BaseException) -> None:
        bugs.append((where, error))

    found = Engine(report).analyze(Source("program.py", both))
    assert [finding.code for finding in found.findings] == ["GS202"]
    assert bugs
    assert all("GS102" in where and isinstance(error, ZeroDivisionError) for where, error in bugs)


def standard_library() -> list[Path]:
    return sorted(
        path
        for path in Path(sysconfig.get_path("stdlib")).rglob("*.py")
        if "site-packages" not in path.parts and "lib2to3" not in path.parts
    )


def check_all(paths: list[Path]) -> None:
    for path in paths:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        try:
            check("import torch\n" + text)
        except Exception as error:
            raise AssertionError(str(path)) from error


def test_some_of_the_standard_library() -> None:
    paths = standard_library()
    assert len(paths) > 500
    check_all(paths[::40])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_of_the_standard_library() -> None:
    check_all(standard_library())

"""What is kept of files that nobody edits: nothing."""

from __future__ import annotations

from command_line import LOST
from gradsight.engine import Engine
from gradsight.text import Source

FUNCTIONS = "\n".join(
    f"def step{number}(model, x, y):\n    return (model(x).detach() - y).pow(2).mean() * {number}\n"
    for number in range(20)
)


def test_a_file_that_is_forgotten_leaves_nothing_and_is_found_anew() -> None:
    engine = Engine()
    sources = [Source(f"{name}.py", LOST + f"{name} = 1\n" + FUNCTIONS) for name in ("one", "two")]
    before = [engine.analyze(source).findings for source in sources]
    kept = len(engine.memo.entries)
    engine.forget("one.py")
    assert len(engine.memo.entries) <= kept
    engine.forget("two.py")
    assert not engine.memo.entries
    engine.forget("never.py")
    engine.analysed.clear()
    assert [engine.analyze(source).findings for source in sources] == before
    assert engine.analysed

"""The words of the command line.

Only the called verb's parser is built, and its help has a fixed width: both would cost more than the rest of
a small check.
"""

from __future__ import annotations

import argparse

from gradsight.finding import Severity

from gradsight_cli import __version__

FORMATS = ("full", "concise", "json", "github", "sarif")
VERBS = {
    "check": "say where gradients are lost",
    "fix": "show the fixes, or make them",
    "probe": "run the code and watch its gradients",
    "explain": "the page of a rule",
    "rules": "list the rules",
    "server": "the language server, for editors",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """What was asked for; `verb` is one of VERBS.

    Raises:
        SystemExit: help or the version was printed, or the words cannot be understood.
    """
    verb = arguments[0] if arguments else ""
    if verb not in VERBS:
        _parser_without_verb().parse_args(arguments)
        raise AssertionError("a parser that takes only verbs took another word")
    parser = argparse.ArgumentParser(
        prog=f"gradsight {verb}", description=VERBS[verb].capitalize() + ".", formatter_class=_formatter
    )
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="auto: on a terminal (default)"
    )
    if verb in ("check", "fix"):
        parser.add_argument("--isolated", action="store_true", help="read no configuration")
    add = {"check": _add_check, "fix": _add_fix, "probe": _add_probe, "explain": _add_explain}.get(verb)
    if add is not None:
        add(parser)
    options = parser.parse_args(arguments[1:])
    options.verb = verb
    return options


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=28, width=100)


def _parser_without_verb() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradsight",
        description="Sees where a PyTorch gradient is lost, and proves it by running it.",
        epilog="`gradsight VERB --help` says more.",
        formatter_class=_formatter,
    )
    parser.add_argument("--version", action="version", version=f"gradsight {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, what in VERBS.items():
        verbs.add_parser(verb, help=what)
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    parser.epilog = "exit codes: 0 nothing at --fail-on or above, 1 something, 2 misuse or not text"
    add(
        "paths",
        nargs="*",
        default=["."],
        metavar="PATH",
        help="a file, a folder (default: .), or - for stdin",
    )
    add("--fixes", action="store_true", help="work out the fixes of each finding as well")
    add("--explain-silence", action="store_true", help="say where nothing could be said, and why")
    add(
        "--fail-on",
        choices=[severity.value for severity in Severity],
        default=Severity.WARNING.value,
        metavar="SEVERITY",
        help="exit with 1 at this severity or above: error, warning (default), information, hint",
    )
    add("--output-format", choices=FORMATS, default="full", help="default: full")
    add("--stdin-filename", metavar="FILE", help="the name of what comes by standard input")
    add("--no-cache", action="store_true", help="neither read nor write .gradsight_cache")
    add("--jobs", type=_positive, metavar="N", help="processes for many files (default: all cores)")


def _add_fix(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "exit codes: 0 nothing to do or all done, 1 something would change (--diff) or is left at `warning` "
        "or above (--write), 2 misuse, not text, or a file that changed meanwhile"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--diff", action="store_true", help="print what would change (default)")
    mode.add_argument("--write", action="store_true", help="change the files")
    parser.add_argument("--unsafe", action="store_true", help="also fixes that change what is computed")
    parser.add_argument(
        "--only", action="append", metavar="CODE", help="only the fixes of this rule; may be given again"
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="run each file without its fixes and with them, and say which gradients came back; nothing is "
        "written that raises only with them",
    )
    _add_running(parser)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file or a folder")


def _add_probe(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    parser.epilog = "exit codes: 0 it ran, 1 the program raised, 2 misuse or no torch"
    add(
        "target",
        metavar="FILE[:A-B]",
        help="a file, or its lines A to B; a notebook, or one of its cells: NOTEBOOK:'cell 3'",
    )
    _add_running(parser)
    add("--output-format", choices=("full", "json"), default="full", help="default: full")


def _add_running(parser: argparse.ArgumentParser) -> None:
    """How a program is run."""
    add = parser.add_argument
    add("--call", metavar="NAME", help="execute the file, then call this function")
    add("--python", metavar="EXE", help="the interpreter that runs it (default: python3)")
    add("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto", help="default: auto")
    add("--timeout", type=_seconds, metavar="S", help="seconds after which it is stopped")
    add("--allow-writes", action="store_true", help="let it write files outside its temporary folder")


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("code", metavar="CODE", help="a rule's code or name: GS102, detach-in-loss")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"`{text}` must be a whole number, at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"`{text}` must be a number of seconds above 0")
    return value

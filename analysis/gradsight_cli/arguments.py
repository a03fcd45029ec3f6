"""The words of the command line."""

from __future__ import annotations

import argparse

from gradsight.finding import Severity

from gradsight_cli import __version__

FORMATS = ("full", "concise", "json", "github", "sarif")


def parser() -> argparse.ArgumentParser:
    """What `gradsight` understands."""
    top = argparse.ArgumentParser(
        prog="gradsight",
        description="Sees where a PyTorch gradient is lost, and proves it by running it.",
        epilog="exit codes of check: 0 nothing at `warning` or above, 1 something, 2 misuse or not text",
    )
    top.add_argument("--version", action="version", version=f"gradsight {__version__}")
    colour = argparse.ArgumentParser(add_help=False)
    colour.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="auto: on a terminal (default)"
    )
    files = argparse.ArgumentParser(add_help=False, parents=[colour])
    files.add_argument("--isolated", action="store_true", help="read no configuration")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    check = verbs.add_parser("check", parents=[files], help="say where gradients are lost")
    check.add_argument(
        "paths", nargs="*", default=["."], metavar="PATH", help="a file, a folder, or - for standard input"
    )
    check.add_argument("--fixes", action="store_true", help="work out the fixes of each finding as well")
    check.add_argument(
        "--explain-silence", action="store_true", help="say where nothing could be said, and why"
    )
    check.add_argument(
        "--fail-on",
        choices=[severity.value for severity in Severity],
        default=Severity.WARNING.value,
        metavar="SEVERITY",
        help="exit with 1 at this severity or above: error, warning (default), information, hint",
    )
    check.add_argument("--output-format", choices=FORMATS, default="full", help="default: full")
    check.add_argument("--stdin-filename", metavar="FILE", help="the name of what comes by standard input")
    check.add_argument("--no-cache", action="store_true", help="neither read nor write .gradsight_cache")
    check.add_argument(
        "--jobs", type=_positive, metavar="N", help="processes for many files (default: all cores)"
    )

    fix = verbs.add_parser("fix", parents=[files], help="show or make the fixes")
    mode = fix.add_mutually_exclusive_group()
    mode.add_argument(
        "--diff", action="store_true", help="print what would change (default); exit with 1 if anything would"
    )
    mode.add_argument("--write", action="store_true", help="change the files")
    fix.add_argument("--unsafe", action="store_true", help="also fixes that change what is computed")
    fix.add_argument("paths", nargs="+", metavar="PATH")

    probe = verbs.add_parser("probe", parents=[colour], help="run the code and watch its gradients")
    probe.add_argument("target", metavar="FILE[:A-B]", help="a file, or its lines A to B")
    probe.add_argument("--call", metavar="NAME", help="execute the file, then call this function")
    probe.add_argument("--python", metavar="EXE", help="the interpreter that runs it (default: python3)")
    probe.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    probe.add_argument("--timeout", type=_seconds, metavar="S", help="seconds after which it is stopped")
    probe.add_argument(
        "--allow-writes", action="store_true", help="let the program write files outside its temporary folder"
    )
    probe.add_argument("--output-format", choices=("full", "json"), default="full")

    explain = verbs.add_parser("explain", parents=[colour], help="the page of a rule")
    explain.add_argument("code", metavar="CODE")
    verbs.add_parser("rules", parents=[colour], help="list the rules")
    verbs.add_parser("server", add_help=False, help="the language server, for editors")
    return top


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return value

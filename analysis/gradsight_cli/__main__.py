"""`gradsight` and `python -m gradsight_cli`. A verb's modules are loaded when it is called."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from gradsight.configuration import BadConfiguration


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Without arguments: as the process, which ends here."""
    # None while modules load, and few later: what was analysed stays, and going through it frees nothing.
    gc.set_threshold(200_000, 50, 100)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a narrow encoding must not stop the report
    code = _guarded(list(sys.argv[1:] if arguments is None else arguments))
    if arguments is None:
        sys.stderr.flush()
        os._exit(code)  # taking everything apart costs a tenth of a small check
    return code


def _guarded(arguments: list[str]) -> int:
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BadConfiguration as error:
        print(f"gradsight: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read has seen enough. The interpreter would flush again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        from gradsight_cli.checking import to_report

        print(f"gradsight: {to_report(error)}", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["server"]:  # its arguments are its own
        return _serve(arguments[1:])
    from gradsight_cli.arguments import parse

    options = parse(arguments)
    if options.verb == "check":
        from gradsight_cli.check import check

        return check(options)
    if options.verb == "fix":
        from gradsight_cli.fix import fix

        return fix(options)
    if options.verb == "probe":
        from gradsight_cli.probing import probe

        return probe(options)
    from gradsight_cli import pages

    if options.verb == "explain":
        return pages.explain(options.code, options.color)
    return pages.list_rules(options.color)


def _serve(arguments: list[str]) -> int:
    from importlib import import_module, util

    if util.find_spec("gradsight_server.app") is None:
        print("gradsight: the language server comes with the editor release", file=sys.stderr)
        return 2
    return int(import_module("gradsight_server.app").main(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main())

"""Runs one program under autograd's eyes, in the interpreter that the user named.

Standard library and torch only, in syntax that Python 3.8 runs; nothing else of Gradsight is imported, and
this folder is never on `sys.path`.
"""

from __future__ import annotations

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Runs the probe that `arguments` describe: the folder that holds the request, the address for events,
    and "spare" if the request comes later."""
    from .run import main as run

    run(arguments)

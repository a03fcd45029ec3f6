"""`gradsight probe`: hands the request to the server's probe room and prints what comes back."""

from __future__ import annotations

import argparse


def probe(options: argparse.Namespace) -> int:
    """Run the probe; returns the exit code: 0 it ran, 1 the program raised, 2 misuse or no torch."""
    raise NotImplementedError

"""Why a change is not made, and the notation of name sets. Loads no libcst, so that rules may import it."""

from __future__ import annotations

from dataclasses import dataclass


def words(names: str) -> frozenset[str]:
    """The set of the names, which are written with spaces between."""
    return frozenset(names.split())


@dataclass(frozen=True, slots=True)
class Refusal:
    """The text cannot be changed faithfully; `reason` says why, as the end of "not fixed: ..."."""

    reason: str

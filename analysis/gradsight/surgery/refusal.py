"""Why a change is not made. Imports nothing, so that rules may use it without loading libcst."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """The text cannot be changed faithfully; `reason` says why, as the end of "not fixed: ..."."""

    reason: str

"""Arguments for the operations whose arguments must fit each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SAMPLES: dict[str, list[Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]]] = {}

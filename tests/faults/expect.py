"""A check that also holds under ``python -O``, where ``assert`` statements vanish."""

from typing import Any


def expect(condition: Any, message: object = "") -> None:
    """Raise AssertionError unless `condition` holds."""
    if not condition:
        raise AssertionError(message)

"""Hooks on a transformer that are removed together."""

from __future__ import annotations

from typing import Any, Self


class Hooks:
    """Holds the handles of hooks; `close`, or the end of a with block, removes them."""

    def __init__(self) -> None:
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the hooks."""
        while self._hooks:
            self._hooks.pop().remove()

"""What every training sample has, whatever is learned from it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ffpdata.models.protocols import Frames


class Sample(Protocol):
    """A pair to train on, or a held-out one."""

    @property
    def item_id(self) -> str:
        """Its name, unique in the training."""

    @property
    def label(self) -> str:
        """The line above its pictures on the contact sheet."""

    @property
    def bucket(self) -> Hashable:
        """Samples of one bucket have one size: the samples of a step are taken from one bucket."""

    def shown(self) -> Mapping[str, Frames]:
        """Return its clips for the contact sheet, by the headings of their columns."""

    def record(self) -> Mapping[str, Any]:
        """Return what the lineage records of it."""

"""Things that a configuration names, which a user's own module can add to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fvcore.common.registry import Registry

from preprocess.base.errors import UserError

T = TypeVar("T")


class NamedRegistry(Registry):
    """A registry of fvcore's whose entries have the names that configurations use.

    ``@FEATURE_LOSSES.register("mine")`` before a class makes ``MODEL.MHKD.FEATURE_LOSS: mine`` mean it; the module must
    have been imported before the configuration is read. A name that is taken raises AssertionError.
    """

    def __init__(self, key: str) -> None:
        """``key``: the configuration key that names an entry, for messages."""
        super().__init__(key)
        self.key = key

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers what follows as ``name``."""

        def add(entry: T) -> T:
            self._do_register(name, entry)
            return entry

        return add

    def get(self, name: str) -> Any:
        """The entry ``name``.

        Raises:
            UserError: there is none; it lists those that exist.
        """
        if name not in self:
            known = ", ".join(name for name, _ in self)
            raise UserError(f"{self.key} is {name!r}", remedy=f"use one of {known}")
        return super().get(name)


FEATURE_LOSSES = NamedRegistry("MODEL.MHKD.FEATURE_LOSS")
"""Sub-classes of :class:`mhkd.losses.feature.FeatureLoss`, made as ``loss(channels, foreground_only=...)``."""

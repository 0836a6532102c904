"""The slides that the browser looks at: opened when it asks, and not too many at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mhkd.inference.viewer.deep_zoom import DeepZoom
from mhkd.inference.viewer.results import SlideView
from mhkd.structures import SlideDetections

MAX_OPEN = 4


@dataclass
class OpenSlide:
    """A slide that is open, what was found on it, and how many requests are reading it."""

    view: SlideView
    zoom: DeepZoom
    detections: SlideDetections
    readers: int = 0


class OpenSlides:
    """Of ``views``, those used last are kept open; safe to use from several threads."""

    def __init__(self, views: Sequence[SlideView]) -> None:
        self.views = tuple(views)
        self._open: OrderedDict[int, OpenSlide] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def reading(self, index: int) -> Iterator[OpenSlide]:
        """Slide ``index``, which stays open as long as the block lasts.

        Raises:
            IndexError: there is no such slide.
            UserError: it cannot be opened.
        """
        with self._lock:
            if index not in self._open:
                view = self.views[index]
                self._open[index] = OpenSlide(view, DeepZoom(view.open()), view.detections())
            self._open.move_to_end(index)
            entry = self._open[index]
            entry.readers += 1
        try:
            yield entry
        finally:
            with self._lock:
                entry.readers -= 1
                self._close_idle(MAX_OPEN)

    def close(self) -> None:
        """Close all that no one is reading."""
        with self._lock:
            self._close_idle(0)

    def _close_idle(self, keep: int) -> None:
        for index in [index for index, entry in self._open.items() if not entry.readers]:
            if len(self._open) <= keep:
                break
            self._open.pop(index).zoom.slide.close()

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mhkd.inference.viewer import open_slides
from mhkd.inference.viewer.open_slides import OpenSlides
from preprocess.base.errors import UserError
from preprocess.slides.slide import Slide


@pytest.fixture
def closed(monkeypatch) -> list[str]:
    names: list[str] = []
    close = Slide.close

    def noted(slide: Slide) -> None:
        names.append(slide.name)
        close(slide)

    monkeypatch.setattr(Slide, "close", noted)
    return names


def test_a_slide_is_opened_once_and_closed_when_others_were_used_since(results, closed, monkeypatch):
    monkeypatch.setattr(open_slides, "MAX_OPEN", 1)
    slides = OpenSlides(results)
    with slides.reading(0) as first:
        pass
    with slides.reading(0) as again:
        assert again is first
        with slides.reading(1):
            pass
        # The one that is being read stays open.
        assert closed == ["part"]
        assert first.zoom.tile(first.zoom.max_level, 0, 0).shape == (255, 255, 3)
    assert closed == ["part"]
    slides.close()
    assert closed == ["part", "discs"]


def test_many_threads_read_at_once(results, monkeypatch):
    monkeypatch.setattr(open_slides, "MAX_OPEN", 1)
    slides = OpenSlides(results)

    def read(number: int) -> int:
        with slides.reading(number % 2) as entry:
            zoom = entry.zoom
            return int(zoom.tile(zoom.max_level, number % 4, number % 3).sum())

    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(read, list(range(12)) * 5))
    assert sums == sums[:12] * 5
    slides.close()


def test_what_cannot_be_opened_says_so_each_time(results):
    slides = OpenSlides(results)
    for _ in range(2):
        with pytest.raises(UserError, match="was not said"), slides.reading(2):
            pass
    with pytest.raises(IndexError), slides.reading(3):
        pass

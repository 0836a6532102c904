from __future__ import annotations

import struct

import numpy as np
import openslide
import pytest

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers.openslide import OpenSlideReader
from preprocess.synthetic.svs import write_plain_tiff, write_svs


@pytest.mark.parametrize("wh", [(1024, 1024), (1031, 1027), (1039, 1025)])
def test_levels_have_the_factor_they_were_made_with(tmp_path, wh):
    image = np.zeros((wh[1], wh[0], 3), np.uint8)
    reader = OpenSlideReader(write_svs(tmp_path / "slide.svs", image))
    assert reader.downsamples == ((1, 1), (4, 4), (16, 16))
    reader.close()


def test_tiles_that_no_memory_holds_are_refused(tmp_path):
    path = write_plain_tiff(tmp_path / "slide.tif", np.zeros((600, 500, 3), np.uint8))
    tile_width = struct.pack("<HHI", 322, 4, 1)
    sound, huge = (tile_width + struct.pack("<I", width) for width in (256, 1 << 30))
    path.write_bytes(path.read_bytes().replace(sound, huge, 1))
    with pytest.raises(UserError, match="level 0 has tiles of 1073741824 x 256 px"):
        OpenSlideReader(path)


def test_a_property_that_is_listed_but_missing_is_empty(tmp_path):
    path = write_svs(tmp_path / "slide.svs", np.zeros((300, 300, 3), np.uint8))
    # A name that is no UTF-8.
    path.write_bytes(path.read_bytes().replace(b"ScanScope ID", b"Scan\xffcope ID"))
    reader = OpenSlideReader(path)
    assert reader.size == Size(300, 300)
    reader.close()


@pytest.mark.parametrize(("kind", "is_said"), [("RESAMPLED", True), ("NONE", False)])
def test_a_dicom_series_without_its_finest_level_is_said(tmp_path, monkeypatch, kind, is_said):
    path = write_svs(tmp_path / "slide.svs", np.zeros((300, 300, 3), np.uint8))
    monkeypatch.setattr(openslide.OpenSlide, "properties", {"dicom.ImageType[3]": kind})
    reader = OpenSlideReader(path)
    assert any("files of the series may be missing" in remark for remark in reader.remarks) == is_said
    reader.close()

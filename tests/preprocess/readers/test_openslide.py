from __future__ import annotations

import numpy as np
import pytest

from preprocess.readers.openslide import OpenSlideReader
from preprocess.synthetic.svs import write_svs


@pytest.mark.parametrize("wh", [(1024, 1024), (1031, 1027), (1039, 1025)])
def test_levels_have_the_factor_they_were_made_with(tmp_path, wh):
    image = np.zeros((wh[1], wh[0], 3), np.uint8)
    reader = OpenSlideReader(write_svs(tmp_path / "slide.svs", image))
    assert reader.downsamples == (1.0, 4.0, 16.0)
    reader.close()

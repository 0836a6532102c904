from __future__ import annotations

import torch

from mhkd.modeling.feature_pictures import GAP_PX, SIDE_PX, feature_picture


def test_maps_stand_side_by_side_from_black_to_white() -> None:
    first, second = torch.zeros(2, 3, 4, 8), torch.zeros(2, 3, 4, 8)
    first[0, :, 0, 0], second[0, :, 0, 7], second[1] = -2.0, 50.0, 1e3
    picture = feature_picture({"a": first, "b": second})
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, SIDE_PX, 2 * SIDE_PX + GAP_PX)
    assert picture[:, 0, 0].tolist() == picture[:, 0, -1].tolist() == [255] * 3
    assert picture[:, SIDE_PX // 2 - 1, SIDE_PX // 2].tolist() == [0] * 3


def test_a_flat_map_is_no_division_by_zero() -> None:
    assert not feature_picture({"a": torch.ones(1, 2, 4, 4)})[..., :SIDE_PX].any()

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mhkd.ablation.untrained import export_untrained
from mhkd.deploy.detector_file import load_detector
from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.tiles.manifest import Manifest


def test_the_teacher_sees_low_magnification_with_its_own_weights(tile_pairs, teacher, tmp_path):
    manifest, path = Manifest.read(tile_pairs), tmp_path / "detector.pth"
    export_untrained(teacher, path, manifest, 4)
    original, found = load_detector(teacher), load_detector(path)
    assert (found.input_mpp, found.tile_px) == (manifest.student_mpp, manifest.tiles["student_width"].iloc[0])
    assert found.provenance["inputs"] == {"weights": sha256_of(teacher)}
    for name, weight in original.model.state_dict().items():
        assert torch.equal(weight, found.model.state_dict()[name]), name
    # It is told apart from the teacher by the size at which its network sees a tile, which is the teacher's own.
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert found.model.preprocess_image([{"image": image}]).tensor.shape[-2:] == (128, 128)

    before = path.stat().st_mtime_ns
    export_untrained(teacher, path, manifest, 4)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="up-samples its input"):
        export_untrained(path, tmp_path / "again.pth", manifest, 4)


def test_other_tiles_make_another_file(tile_pairs, teacher, tmp_path):
    manifest, path = Manifest.read(tile_pairs), tmp_path / "detector.pth"
    export_untrained(teacher, path, manifest, 4)
    export_untrained(teacher, path, replace(manifest, student_mpp=16.0), 8)
    found = load_detector(path)
    assert (found.input_mpp, found.model.upsample) == (16.0, 8)

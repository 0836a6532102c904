"""A table of procedural slides and real images: splits by patient, copies of training images alone, the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from preprocess.base.errors import UserError
from preprocess.base.files import sha256_of
from preprocess.base.images import write_image
from preprocess.slides.table import check_patients, read_slides_csv
from preprocess.synthetic.mixture import mix, read_real

FRACTIONS = (0.6, 0.2, 0.2)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """A procedural table of two slides, and one of five real images of five patients and a sixth of another source."""
    rng = np.random.default_rng(0)
    (tmp_path / "outlines.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    rows = []
    for index in range(6):
        write_image(tmp_path / f"real{index}.png", rng.integers(120, 255, (16, 16, 3), dtype=np.uint8))
        source = "aidpath" if index < 5 else "other"
        rows.append((f"real{index}.png", "outlines.geojson", 0.5, f"R{index}", "PAS", source))
    columns = ["slide", "annotation", "mpp", "patient", "stain", "source"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "real.csv", index=False)
    made = [("made0.png", "outlines.geojson", 0.5, "P1", "train", "HE"), ("made1.png", "", 0.5, "P2", "val", "PAS")]
    for row in made:
        write_image(tmp_path / row[0], rng.integers(120, 255, (16, 16, 3), dtype=np.uint8))
    columns = ["slide", "annotation", "mpp", "patient", "split", "stain"]
    pd.DataFrame(made, columns=columns).to_csv(tmp_path / "procedural.csv", index=False)
    return tmp_path / "procedural.csv", tmp_path / "real.csv"


def test_training_images_alone_get_copies_and_every_path_leads_somewhere(tables, tmp_path) -> None:
    real = read_real(tables[1], "aidpath", FRACTIONS)
    mix(tables[0], real, tmp_path / "out" / "slides.csv", copies=3, seed=1)
    table = read_slides_csv(tmp_path / "out" / "slides.csv")
    check_patients(table)
    aidpath = table[table["source"] == "aidpath"]
    assert aidpath["patient"].nunique() == 5
    assert aidpath["split"].value_counts().to_dict() == {"train": 3 * 4, "val": 1, "test": 1}
    assert not table["slide"].str.contains("real5").any()
    assert all(Path(path).is_file() for path in [*aidpath["slide"], *aidpath["annotation"]])
    assert (table["source"] == "procedural").sum() == 2


def test_the_same_seed_gives_the_same_bytes(tables, tmp_path) -> None:
    real = read_real(tables[1], "aidpath", FRACTIONS)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        mix(tables[0], real, tmp_path / name / "slides.csv", copies=2, seed=seed)
    hashes = [[sha256_of(file) for file in sorted((tmp_path / name).rglob("*.png"))] for name in "abc"]
    assert len(hashes[0]) == 6
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_source_that_is_not_there_is_a_user_error(tables) -> None:
    with pytest.raises(UserError, match="no image of the source nowhere"):
        read_real(tables[1], "nowhere", FRACTIONS)
    with pytest.raises(UserError, match="no column source"):
        read_real(tables[0], "aidpath", FRACTIONS)
    with pytest.raises(UserError, match="no annotation"):
        read_real(tables[0], None, FRACTIONS)

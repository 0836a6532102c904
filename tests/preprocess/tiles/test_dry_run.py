from __future__ import annotations

import pytest

from preprocess.tiles.manifest import Manifest
from tools import make_tiles


def run(slides_csv, root, *options):
    return make_tiles.main([str(slides_csv), "--output-dir", str(root), "--tile-px", "128", "--workers", "0", *options])


def test_a_dry_run_says_what_is_cut_and_writes_nothing(slides_csv, tmp_path, capsys):
    root = tmp_path / "tiles"
    assert run(slides_csv, root, "--dry-run") == 0
    *slides, total = capsys.readouterr().out.splitlines()
    assert list(tmp_path.iterdir()) == []
    assert run(slides_csv, root) == 0
    capsys.readouterr()
    manifest = Manifest.read(root)
    for line, name in zip(slides, "abc", strict=True):
        tiles = manifest.tiles[manifest.tiles["slide"] == name]
        counted = manifest.boxes[manifest.boxes["tile_id"].isin(tiles["tile_id"]) & ~manifest.boxes["ignore"]]
        num_object = tiles["tile_id"].isin(manifest.boxes["tile_id"]).sum()
        assert line.startswith(f"  {name} ({tiles['split'].iloc[0]}): 0.5 um/px from slide property openslide.mpp-x/y;")
        assert f"{num_object} with objects, {len(tiles) - num_object} empty," in line
        assert f"5 objects in {len(counted)} boxes" in line
    assert total.startswith(f"  3 slides to cut, 0 finished, 0 bad; {len(manifest.tiles)} tile pairs to have")
    stated = sum(float(line.split("about ")[1].split(" MB")[0]) for line in slides)
    actual = sum(file.stat().st_size for file in (root / "tiles").rglob("*.*")) / 1e6
    assert stated == pytest.approx(actual, rel=0.25)
    assert run(slides_csv, root, "--dry-run") == 0
    assert "0 slides to cut, 3 finished, 0 bad" in capsys.readouterr().out


def test_bad_slides_are_named_with_the_reason(slides_csv, tmp_path, capsys):
    table = slides_csv.with_name("with-a-bad-one.csv")
    table.write_text(slides_csv.read_text() + "gone.svs,a.geojson,patient-d,train\n")
    assert run(table, tmp_path / "tiles", "--dry-run") == 3
    captured = capsys.readouterr()
    assert "3 slides to cut, 0 finished, 1 bad" in captured.out
    assert "failed: gone: " in captured.err
    assert "no such slide" in captured.err

from __future__ import annotations

from mhkd.evaluation.pseudo_labels import Thresholds
from tools import make_tiles, pseudo_labels, visualize_tile_pairs


def test_from_a_table_to_labels_that_can_be_looked_at(slides_csv, checkpoint, tmp_path, capsys):
    table = slides_csv.with_name("tool.csv")
    table.write_text(
        "slide,annotation,split,labelled\na.svs,a.geojson,train,yes\nb.svs,b.geojson,val,yes\nc.svs,,train,no\n"
    )
    tiles, labels = tmp_path / "tiles", tmp_path / "labels"
    cut = ("--teacher-mpp", "2", "--student-mpp", "8", "--tile-px", "128", "--merge-labels", "glomerulus")
    assert make_tiles.main([str(table), "--output-dir", str(tiles), "--workers", "0", *cut]) == 0
    assert "1 of them unlabelled" in capsys.readouterr().out
    thresholds = ("--sure-thresh", "0.3", "--unsure-thresh", "0.05")
    files = ("--tiles", str(tiles), "--slides", str(table), "--model", str(checkpoint), "--output-dir", str(labels))
    assert pseudo_labels.main([*files, *thresholds, "--device", "cpu", "--backend", "torch"]) == 0
    assert "1 slides: " in capsys.readouterr().out
    sheet = tmp_path / "sheet.png"
    assert visualize_tile_pairs.main([str(tiles), "--pseudo-labels", str(labels), "--output", str(sheet)]) == 0
    assert sheet.stat().st_size > 1000


def test_chosen_thresholds_are_said(slides_csv, checkpoint, tmp_path, capsys, monkeypatch):
    table = slides_csv.with_name("chosen.csv")
    table.write_text(
        "slide,annotation,split,labelled\na.svs,a.geojson,train,yes\nb.svs,b.geojson,val,yes\nc.svs,,train,no\n"
    )
    tiles = tmp_path / "tiles"
    cut = ("--teacher-mpp", "2", "--student-mpp", "8", "--tile-px", "128", "--merge-labels", "glomerulus")
    assert make_tiles.main([str(table), "--output-dir", str(tiles), "--workers", "0", *cut]) == 0
    monkeypatch.setattr(Thresholds, "best", lambda matches: Thresholds(0.5, 0.1, "said", 0.9, 0.8))
    files = ("--tiles", str(tiles), "--slides", str(table), "--model", str(checkpoint))
    assert pseudo_labels.main([*files, "--output-dir", str(tmp_path / "labels"), "--device", "cpu"]) == 0
    assert "thresholds: said; precision 90.0%, recall 80.0%" in capsys.readouterr().out

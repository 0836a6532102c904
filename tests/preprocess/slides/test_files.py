from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pytest
import tifffile

from preprocess.slides import files as slide_files_module
from preprocess.slides.files import file_states, fingerprint, slide_files, slide_sha256

SIZE = 3_000_000


def test_a_copy_under_another_name_is_the_same_and_another_slide_is_not(svs_slide, tmp_path):
    copy = shutil.copy(svs_slide, tmp_path / "other name.tif")
    assert fingerprint(copy) == fingerprint(svs_slide)
    (tmp_path / "more.svs").write_bytes(svs_slide.read_bytes() + b"\0")
    assert fingerprint(tmp_path / "more.svs") != fingerprint(svs_slide)
    assert len(fingerprint(svs_slide)) == 64


@pytest.mark.parametrize("place", [0, 70_000, SIZE // 2, SIZE - 1])
def test_a_large_file_that_was_cut_off_or_changed_widely_differs(tmp_path, place):
    path = tmp_path / "large.svs"
    path.write_bytes(bytes(SIZE))
    before = fingerprint(path)
    path.write_bytes(bytes(place) + b"\1" * min(100_000, SIZE - place) + bytes(max(0, SIZE - place - 100_000)))
    assert fingerprint(path) != before
    path.write_bytes(bytes(SIZE - 1))
    assert fingerprint(path) != before


def test_the_files_of_formats_with_several(tmp_path):
    (tmp_path / "a").mkdir()
    for name in (
        "a.mrxs",
        "a/Slidedat.ini",
        "a/Data0001.dat",
        "b.mrxs",
        "c.csv",
        "map",
        "x (1,0).jpg",
        "d.vms",
        "e.svs",
    ):
        (tmp_path / name).write_text("1")
    lines = ("[Specimen]", "NoLayers=1", "ImageFile(1,0)=x (1,0).jpg", "MapFile=map", "MacroImage=gone.jpg")
    (tmp_path / "c.vms").write_text("\r\n".join(lines))
    named = {
        name: [str(file.relative_to(tmp_path)) for file in slide_files(tmp_path / name)] for name in ("a.mrxs", "c.vms")
    }
    assert named == {"a.mrxs": ["a.mrxs", "a/Data0001.dat", "a/Slidedat.ini"], "c.vms": ["c.vms", "map", "x (1,0).jpg"]}
    before = fingerprint(tmp_path / "a.mrxs")
    (tmp_path / "a" / "Data0001.dat").write_text("2")
    assert fingerprint(tmp_path / "a.mrxs") != before


def test_an_ome_tiff_of_several_files_is_all_of_them(tmp_path):
    image = np.zeros((3, 64, 64), np.uint8)
    xml = [
        f'<TiffData FirstC="{c}" IFD="0"><UUID FileName="{n}.ome.tif">urn:{n}</UUID></TiffData>'
        for c, n in enumerate("abc")
    ]
    for name, plane in zip("abc", image, strict=True):
        sizes = " ".join(f'Size{axis}="{n}"' for axis, n in zip("XYCZT", (64, 64, 3, 1, 1), strict=True))
        pixels = f'<Pixels DimensionOrder="XYCZT" Type="uint8" {sizes}>{"".join(xml)}'
        text = f'<?xml version="1.0"?><OME UUID="urn:{name}"><Image ID="Image:0">{pixels}</Pixels></Image></OME>'
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane, description=text, metadata=None)
    (tmp_path / "d.ome.tif").write_bytes((tmp_path / "c.ome.tif").read_bytes())
    assert [file.name for file in slide_files(tmp_path / "b.ome.tif")] == ["b.ome.tif", "a.ome.tif", "c.ome.tif"]
    assert slide_files(tmp_path / "gone.ome.tif") == [tmp_path / "gone.ome.tif"]


def test_a_dicom_slide_is_the_series_that_its_headers_name(tmp_path, monkeypatch):
    monkeypatch.setattr(slide_files_module, "series_of", lambda path: "1.2.3" if path.name < "z" else "9.9")
    for name, series in (("a.dcm", "1.2.3"), ("b.dcm", "1.2.3"), ("c", "1.2.3"), ("d", "1.2.34"), ("z.dcm", "9.9")):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" + series.encode())
    (tmp_path / "notes.txt").write_text("1.2.3")
    (tmp_path / "folder").mkdir()
    assert [file.name for file in slide_files(tmp_path / "b.dcm")] == ["b.dcm", "a.dcm", "c"]
    assert fingerprint(tmp_path / "a.dcm") == fingerprint(tmp_path / "b.dcm") != fingerprint(tmp_path / "z.dcm")
    assert [file.name for file in slide_files(tmp_path / "z.dcm")] == ["z.dcm"]
    (tmp_path / "z.dcm").write_text("no DICOM")
    assert [file.name for file in slide_files(tmp_path / "z.dcm")] == ["z.dcm"]


def test_the_states_of_a_slide_s_files_tell_a_change(tmp_path):
    for name in ("a.mrxs", "a/Data0001.dat"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
        os.utime(tmp_path / name, ns=(5, 5))
    assert file_states(tmp_path / "a.mrxs") == [("a.mrxs", 1, 5), ("a/Data0001.dat", 1, 5)]
    os.utime(tmp_path / "a" / "Data0001.dat", ns=(6, 6))
    assert file_states(tmp_path / "a.mrxs") == [("a.mrxs", 1, 5), ("a/Data0001.dat", 1, 6)]
    assert file_states(tmp_path / "b.mrxs") is None


def test_the_hash_of_a_slide_is_that_of_all_its_files(tmp_path):
    for name in ("a.svs", "b.mrxs", "b/Data.dat"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert slide_sha256(tmp_path / "a.svs") == abc
    listed = hashlib.sha256(f"{abc}  b.mrxs\n{abc}  b/Data.dat\n".encode()).hexdigest()
    assert slide_sha256(tmp_path / "b.mrxs") == listed

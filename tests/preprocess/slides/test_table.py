from __future__ import annotations

import os
import shutil
import unicodedata

import pytest

from preprocess.base.errors import UserError
from preprocess.slides.table import OUTPUT_NAME, SLIDES_COLUMNS, read_slides_csv


@pytest.fixture
def table(tmp_path):
    for name in ("a.svs", "b.svs", "c.svs", "a.geojson"):
        (tmp_path / name).write_text(name)

    def write(text, encoding="utf-8"):
        path = tmp_path / "slides.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_a_full_table(table, tmp_path):
    path = table("slide,annotation,mpp,patient,split,stain\nb.svs,, ,,,\na.svs,a.geojson,0.5,p1,Train,PAS\n")
    slides = read_slides_csv(path)
    assert list(slides.columns) == [*SLIDES_COLUMNS, "stain", OUTPUT_NAME]
    assert slides["slide"].tolist() == [str(tmp_path / "b.svs"), str(tmp_path / "a.svs")]
    assert slides.loc[1, ["annotation", "mpp", "patient", "split"]].tolist() == [
        str(tmp_path / "a.geojson"),
        0.5,
        "p1",
        "train",
    ]
    assert slides.loc[0, ["annotation", "mpp", "patient", "split", "stain"]].isna().all()


@pytest.mark.parametrize(
    "header",
    [
        "Slide,MPP,Patient,Split",
        "SLIDE , mpp (um/px), patient_id ,set",
        "wsi,MPP,Case,subset",
        "File Name,mpp,Patient ID,SPLIT",
        "file,µm/px,Patienten-Nr.,dataset",
        "path,um/pixel,case_submitter_id,data split",
    ],
)
def test_columns_by_any_usual_name(table, header, capsys):
    slides = read_slides_csv(table(f"{header}\na.svs,0.5,p,Training\nb.svs,0.5,q,valid\n"))
    assert slides["mpp"].tolist() == [0.5, 0.5]
    assert slides["patient"].tolist() == ["p", "q"]
    assert slides["split"].tolist() == ["train", "val"]
    assert "not used" not in capsys.readouterr().err


def test_a_column_that_is_not_used_is_mentioned_once(table, capsys):
    read_slides_csv(table("slide,pateint,set,age,stain\na.svs,p,hospital A,40,PAS\n"), used=["age"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("not used: 'pateint' (did you mean patient?), 'set' (did you mean split?)")


def test_of_two_names_for_one_column_the_own_one_counts(table, capsys):
    slides = read_slides_csv(table("slide,case,patient\na.svs,x,p\n"))
    assert slides["patient"].tolist() == ["p"]
    assert "not used: 'case'" in capsys.readouterr().err


@pytest.mark.parametrize("patient", ["NA", "None", "null", "nan", "N/A", "007", "1e5", "TRUE", "-", "1.0", "#N/A"])
def test_text_stays_text(table, patient):
    slides = read_slides_csv(table(f"slide,patient,stain\na.svs,{patient},{patient}\n"))
    assert slides["patient"].tolist() == slides["stain"].tolist() == [patient]
    with pytest.raises(UserError, match=f"patient '{patient}' is in two splits"):
        read_slides_csv(table(f"slide,patient,split\na.svs,{patient},train\nb.svs,{patient},test\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the table is empty"),
        ("patient,age\np,4\n", "no column 'slide' among 'patient', 'age'"),
        ("# my slides\nslide,mpp\na.svs,0.5\n", "its first line, '# my slides', names none of its columns"),
        ("slide,set\na.svs,train\nb.svs,tset\n", "unknown split 'tset'"),
        ("slide,mpp\n", "lists no slide"),
        ("slide,mpp\na.svs,0.5\n,0.5\n", "line 3 names no slide"),
        ("slide,mpp\na.svs,fast\n", "line 2: mpp 'fast' of a.svs"),
        ("slide,mpp\na.svs,500\n", "mpp '500' of a.svs"),
        ("slide,mpp\na.svs,inf\n", "mpp 'inf' of a.svs"),
        ("slide,split\na.svs,holdout\n", "unknown split 'holdout'"),
        ("slide\na.svs\na.svs\n", "line 3 lists a.svs again"),
        ("slide,Slide\na.svs,b.svs\n", "two columns are named 'slide'"),
        ("slide,patient,split\na.svs,p,train\nb.svs,p,test\n", "patient 'p' is in two splits: train and test"),
        ("slide\nx.svs\ny.svs\n", "none of its slides exists"),
        ('slide\n"a.svs\n', "a quotation mark of line 2 does not end"),
        ("slide,annotation\na.svs,a.geojson,0,25\n", "line 2 has 4 cells, and the first line names 2"),
    ],
)
def test_bad_tables_are_one_clear_line(table, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_slides_csv(table(text))
    assert "slides.csv" in str(caught.value)


def test_no_table(tmp_path):
    with pytest.raises(UserError, match="no such table"):
        read_slides_csv(tmp_path / "none.csv")


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_files_are_found_however_they_are_spelled(table, tmp_path, on_disk, in_table, encoding):
    folder, name = (unicodedata.normalize(on_disk, text) for text in ("Bögen", "Präparat 1.svs"))
    (tmp_path / folder).mkdir()
    (tmp_path / folder / name).touch()
    cell = unicodedata.normalize(in_table, "Bögen\\Präparat 1.svs")
    slides = read_slides_csv(table(f"slide\n{cell}\n", encoding))
    assert os.path.samefile(slides["slide"][0], tmp_path / folder / name)
    assert unicodedata.is_normalized("NFC", slides[OUTPUT_NAME][0])


def test_slides_of_one_name_have_outputs_of_their_own(table, tmp_path):
    text = "slide\na.svs\nx/a.svs\ny/a.svs\nb.svs\nb.tif\nB.svs\n"
    slides = read_slides_csv(table(text))
    names = slides[OUTPUT_NAME].tolist()
    assert len(set(map(str.casefold, names))) == 6
    again = read_slides_csv(table(text.replace("slide\n", "slide\nc.svs\n")))
    assert again[OUTPUT_NAME].tolist() == ["c", *names]


@pytest.mark.parametrize("text", ["NA", "nan", "N/A", "-", ""])
def test_a_size_of_a_pixel_that_is_not_given(table, text):
    assert read_slides_csv(table(f"slide,mpp\na.svs,{text}\n"))["mpp"].isna().all()


@pytest.mark.parametrize("other", ["P1", "p 1", "p1\u00a0", " p1", "p01", "p1.0", "\uff50\uff11"])
def test_a_patient_written_in_two_ways(table, other, capsys):
    path = table(f"slide,patient\na.svs,p1\nb.svs,{other}\n")
    if other.strip() == "p1":
        assert read_slides_csv(path)["patient"].tolist() == ["p1", "p1"]
        return
    with pytest.raises(UserError, match="differ in case, blanks, dashes or leading zeros only"):
        read_slides_csv(path)
    read_slides_csv(path, for_training=False)
    assert "differ in case, blanks, dashes or leading zeros only" in capsys.readouterr().err


def test_a_patient_in_the_first_row_of_a_block_only(table, capsys):
    with pytest.raises(UserError, match="line 3 has no patient, below one of 'p1': a merged cell"):
        read_slides_csv(table("slide,patient\na.svs,p1\nb.svs,\nc.svs,p2\n"))
    with pytest.raises(UserError, match="line 4 has no patient"):
        read_slides_csv(table("slide,patient,split\na.svs,p1,train\nb.svs,p2,train\nc.svs,,test\n"))
    # Here it makes no difference for the splits.
    read_slides_csv(table("slide,patient,split\na.svs,p1,train\nb.svs,,train\nc.svs,p2,test\n"))
    read_slides_csv(table("slide,patient\na.svs,\nb.svs,\nc.svs,p2\n"))
    assert not capsys.readouterr().err


@pytest.mark.parametrize("copy", [shutil.copy, os.symlink, os.link])
def test_the_same_pixels_are_one_patient_in_one_split(table, tmp_path, copy, capsys):
    copy(tmp_path / "a.svs", tmp_path / "copy.tif")
    for text in (
        "slide\na.svs\ncopy.tif\n",
        "slide,patient\na.svs,p\ncopy.tif,q\n",
        "slide,patient,student_slide\na.svs,p,\nb.svs,q,copy.tif\n",
    ):
        with pytest.raises(UserError, match=r"lines 2 and 3 have the same pixels, a\.svs and copy\.tif"):
            read_slides_csv(table(text))
        read_slides_csv(table(text), for_training=False)
    assert not capsys.readouterr().err
    read_slides_csv(table("slide,patient\na.svs,p\ncopy.tif,p\n"))
    assert "they count twice" in capsys.readouterr().err
    read_slides_csv(table("slide,student_slide\na.svs,a.svs\n"))

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.base.errors import UserError
from preprocess.base.text_table import nfc, parse_text_table, read_text_table

ROWS = [["slide", "mpp"], ["Präparat 1.svs", "0.25"], ["S12, PAS.svs", "NA"]]


def cells_of(table):
    return [list(table.columns), *table.to_numpy().tolist()]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["", "sep={}"])
def test_tables_as_programs_save_them(tmp_path, separator, encoding, line_end, first):
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator, lineterminator=line_end).writerows(ROWS)
    text = stream.getvalue()
    if first:
        text = first.format(separator) + line_end + text
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert cells_of(read_text_table(tmp_path / "t.csv")) == ROWS


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b,\n1,2,\n3,4,\n", [["a", "b"], ["1", "2"], ["3", "4"]]),
        ("a,b\n1,2,\n3,4,\n", [["a", "b"], ["1", "2"], ["3", "4"]]),
        ("a;b;;\n1;0,5;;\n;;;\n", [["a", "b"], ["1", "0,5"]]),
        ('a;b;"c, d"\n1;2;3\n', [["a", "b", "c, d"], ["1", "2", "3"]]),
        (' "a" , "b" \n 1 , 2 \n', [["a", "b"], ["1", "2"]]),
        ('a,b\n"x\ny",2\n', [["a", "b"], ["x\ny", "2"]]),
        (",a,b\n0,1,2\n", [["a", "b"], ["1", "2"]]),
        ('a,b\n="007",5" high\n', [["a", "b"], ["007", '5" high']]),
        ("a,b\n1,2\n\n\n \n", [["a", "b"], ["1", "2"]]),
        ("\n\na,b\n1,2", [["a", "b"], ["1", "2"]]),
        ("a\tb\nx\t\n", [["a", "b"], ["x", ""]]),
    ],
)
def test_what_spreadsheets_and_hands_make_of_them(text, rows):
    assert cells_of(parse_text_table(text)) == rows


def test_a_comma_in_a_name_does_not_hide_the_semicolons():
    table = parse_text_table("slide;age, sex, and more\na;b\n", {"slide"}.__contains__)
    assert cells_of(table) == [["slide", "age, sex, and more"], ["a", "b"]]


def test_the_index_counts_lines():
    assert parse_text_table('a,b\n"x\ny",1\n\nz,2\n').index.tolist() == [2, 5]
    assert parse_text_table("sep=;\na;b\nx;1\n").index.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the table is empty"),
        ("\n \n", "the table is empty"),
        ("a,b\n1,2\n1,0,25\n", "line 3 has 3 cells, and the first line names 2 columns"),
        ("a,b,c\n1,2\n", "line 2 has 2 cells, and the first line names 3 columns"),
        ('a,b\n1,2\n"3,4\n5,6\n', "a quotation mark of line 3 does not end"),
        ("a,,b\n1,2,3\n", "column 2 has no name"),
        ("a,b,a\n1,2,3\n", "two columns are named 'a'"),
    ],
)
def test_bad_tables_are_named_by_line(text, message):
    with pytest.raises(UserError, match=message):
        parse_text_table(text)


@pytest.mark.parametrize("data", [b"PK\x03\x04...", b"a,b\n\x00\x01\x02,\x03\n", b"\xff\xfea", b"\x81\x8d\xff\xfe"])
def test_what_is_no_text_is_refused(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(UserError, match=r"t\.csv: (no text in UTF-8|a workbook)"):
        read_text_table(tmp_path / "t.csv")


def test_a_guessed_encoding_is_noted_and_two_in_one_file_are_refused(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_bytes("slide,patient\na.svs,Müller\n".encode("cp1252"))
    assert read_text_table(path)["patient"].tolist() == ["Müller"]
    assert "read as Windows-1252: line 2 is 'a.svs,Müller'" in capsys.readouterr().err
    path.write_bytes(path.read_bytes() + "b.svs,Müller\n".encode())
    with pytest.raises(UserError, match="line 3 is in UTF-8, and line 2 is not"):
        read_text_table(path)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00\x1e\ufeff\u200b\u200e\u2060")).map(
    lambda text: nfc(" ".join(text.split()))
)


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(texts, min_size=n, max_size=n), max_size=5)))
def test_every_text_comes_back(rows):
    rows = [["name", "b", "c", "d"][: len(rows[0])] if rows else ["name"], *(row for row in rows if any(row))]
    rows = [row for row in rows if not any(cell.startswith('="') for cell in row)]
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    table = parse_text_table(stream.getvalue(), {"name"}.__contains__)
    assert cells_of(table) == rows

"""Tables of text as people and spreadsheets save them: every cell stays the text that it is."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from preprocess.base.console import note
from preprocess.base.errors import UserError, named

_SEPARATORS = ",;\t|"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Blanks that str.strip leaves: spreadsheets and web pages put them around what is copied from them.
_INVISIBLE = "\ufeff\u200b\u200e\u2060"
_END = "\x1e"
_LINE_ENDS = "\r\n\x1a"  # with the mark that some programs of DOS end a file with
_SAVE = "save it as CSV in UTF-8"
_NAMES = "write the names of the columns, separated by commas, into the first line"
_QUOTE = "put cells that hold the separator between double quotes; with decimal commas, separate by semicolons"

csv.field_size_limit(1 << 30)  # the run lengths of a slide are one cell


def nfc(text: str) -> str:
    """``text`` with composed letters: macOS writes the same name with the letter and its accent apart."""
    return unicodedata.normalize("NFC", text)


def read_text(path: Path) -> str:
    """The text of the file ``path``: UTF-8, UTF-16 with its mark, or else Windows-1252, as older spreadsheets save it.

    A note says where it is read as the last. Raises UserError where the file is none of them, or where some lines are
    in UTF-8 and others are not: the same name would become two.
    """
    data = path.read_bytes()
    with named(path):
        encoding = _encoding(data)
    text = data.decode(encoding)
    if encoding == "cp1252":
        number, line = next((i, line) for i, line in enumerate(text.split("\n"), start=1) if not line.isascii())
        note(f"{path}: not in UTF-8, so read as Windows-1252: line {number} is {line.strip()[:60]!r}")
    return text


def _encoding(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04") or data.startswith(b"\xd0\xcf\x11\xe0"):
        raise UserError("a workbook of a spreadsheet, not a text file", remedy=_SAVE)
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if encoding is None and b"\x00" in data[:2]:
        encoding = "utf-16-be" if data[:1] == b"\x00" else "utf-16-le"
    for name in [encoding] if encoding else ["utf-8", "cp1252"]:
        if _is_text(data, name):
            break
    else:
        raise UserError("no text in UTF-8", remedy=_SAVE)
    if name == "cp1252":
        numbered = [(i, line) for i, line in enumerate(data.split(b"\n"), start=1) if not line.isascii()]
        last = {_is_text(line, "utf-8"): number for number, line in numbered}
        if len(last) > 1:
            raise UserError(f"line {last[True]} is in UTF-8, and line {last[False]} is not", remedy=_SAVE)
    return name


def _is_text(data: bytes, encoding: str) -> bool:
    try:
        return "\x00" not in data.decode(encoding)
    except UnicodeError:
        return False


def read_text_table(path: str | Path, is_known: Callable[[str], bool] = bool) -> pd.DataFrame:
    """The table in the file ``path``, as :func:`parse_text_table` reads it. Raises UserError, as that does."""
    path = Path(path)
    if not path.is_file():
        raise UserError("no such table", path=path, remedy="give a CSV file")
    text = read_text(path)
    with named(path):
        return parse_text_table(text, is_known)


def parse_text_table(text: str, is_known: Callable[[str], bool] = bool) -> pd.DataFrame:
    """A table of separated cells: a column for each name of its first line, all cells text (NFC), "" where empty.

    The index has the number of the line that each row begins on. Lines and columns without any text are left out, and
    a first column without a name, which pandas writes, too. The separator is that of a first line ``sep=;``, or of
    comma, semicolon, tab and bar the one that gives most names that ``is_known`` takes, and then most names.

    Raises:
        UserError: no column has a name that ``is_known`` takes, a line has more or fewer cells than the header, a
            quotation mark does not end, a column has no name, or two have the same one.
    """
    text, separator, offset = _separated(text, is_known)
    lines = ((number + offset, cells) for number, cells in _rows(text, separator))
    _, names = next(lines, (0, []))
    names = _trimmed(names)
    if not names:
        raise UserError("the table is empty", remedy=_NAMES)
    if not any(map(is_known, names)):
        raise UserError(f"its first line, {text[:60].splitlines()[0]!r}, names none of its columns", remedy=_NAMES)
    rows: dict[int, list[str]] = {}
    for number, cells in lines:
        if len(_trimmed(cells)) > len(names) or len(cells) < len(names):
            reason = f"line {number} has {len(cells)} cells, and the first line names {len(names)} columns"
            raise UserError(reason, remedy=_QUOTE)
        rows[number] = cells[: len(names)]
    if "" in names[1:]:
        raise UserError(f"column {names.index('', 1) + 1} has no name", remedy="name it, or empty its cells")
    if again := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UserError(f"two columns are named {again[0]!r}", remedy="leave one of them out")
    table = pd.DataFrame(list(rows.values()), index=list(rows), columns=names, dtype=object)
    return table.drop(columns="", errors="ignore")


def column_names(text: str, is_known: Callable[[str], bool] = bool) -> list[str]:
    """The names in the first line of a table as :func:`parse_text_table` reads it; none where it has no such line."""
    text, separator, _ = _separated(text, is_known)
    return _header(text, separator)


def _separated(text: str, is_known: Callable[[str], bool]) -> tuple[str, str, int]:
    """``text`` without the line ``sep=;``, the separator, and how many lines were left out."""
    stated, separator, rest = text[:4].lower(), text[4:5], text[5:]
    if stated == "sep=" and separator and rest[:1] in ("\r", "\n"):
        return rest[2:] if rest.startswith("\r\n") else rest[1:], separator, 1
    return text, max(_SEPARATORS, key=lambda each: _score(_header(text, each), is_known)), 0


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the line on which it begins, and the cells, of each row with any text."""
    # A quotation mark that never ends takes the last line in.
    reader = csv.reader(
        io.StringIO(f"{text.rstrip(_LINE_ENDS)}\n{_END}\n", newline=""), delimiter=separator, skipinitialspace=True
    )
    number = 1
    for cells in reader:
        if cells == [_END]:
            return
        if any(_END in cell for cell in cells):
            raise UserError(f"a quotation mark of line {number} does not end", remedy="write it twice, or remove it")
        cells = [_plain(cell) for cell in cells]
        if any(cells):
            yield number, cells
        number = reader.line_num + 1


def _plain(cell: str) -> str:
    text = nfc(cell.strip().strip(_INVISIBLE).strip())
    # How a spreadsheet is told to leave 007 as it is.
    return text[2:-1] if text.startswith('="') and text.endswith('"') and len(text) > 2 else text


def _header(text: str, separator: str) -> list[str]:
    try:
        return next((cells for _, cells in _rows(text, separator)), [])
    except UserError:
        return []


def _score(names: list[str], is_known: Callable[[str], bool]) -> tuple[int, int]:
    return sum(map(is_known, names)), len(names)


def _trimmed(cells: list[str]) -> list[str]:
    """``cells`` without the empty ones at the end, which spreadsheets write."""
    while cells and not cells[-1]:
        cells = cells[:-1]
    return cells

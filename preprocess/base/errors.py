"""The one exception a user of the product is meant to see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Control characters, what some programs take for the end of a line, and bytes of a name that are no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class UserError(Exception):
    """Something the user can mend: a bad file, a missing value, a wrong option.

    ``str(error)`` is one line that says what is wrong, where, and what to do. Command-line
    tools print it and exit with status 1; cohort runs catch it per slide and go on.
    """

    def __init__(self, reason: str, *, path: str | Path | None = None, remedy: str = "") -> None:
        where = f"{printable(str(path))}: " if path is not None else ""
        advice = f" ({remedy})" if remedy else ""
        super().__init__(where + printable(" ".join(f"{reason}{advice}".split())))
        self.path = path
        self.reason = reason
        self.remedy = remedy


def printable(text: str) -> str:
    r"""``text`` on one line of characters that any file or terminal takes, all others as escapes such as ``\n``."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let a UserError of the block name ``path``, the file that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(error.reason, path=path, remedy=error.remedy) from error

from __future__ import annotations

import errno

import pytest

from preprocess.base.console import describe_error
from preprocess.base.files import atomic_path


def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match="No space left") as raised, atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write does, which knows no name
    assert describe_error(raised.value).startswith(f"{path}: no space left on the device")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_something_else_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(OSError, match="Input/output") as raised, atomic_path(tmp_path / "a.json"):
        raise OSError(errno.EIO, "Input/output error")
    assert raised.value.filename is None

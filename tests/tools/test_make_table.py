from __future__ import annotations

import re

import pytest

from preprocess.base.console import run_main
from preprocess.base.errors import UserError
from preprocess.cohorts import BUILDERS
from tools import make_table


@pytest.mark.parametrize("cohort", BUILDERS)
@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_a_folder_without_the_cohort_is_named_and_nothing_is_written(cohort, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=re.escape(str(tmp_path / folder))):
        make_table.main([cohort, str(tmp_path / folder), "--output", str(tmp_path / "out" / "slides.csv")])
    assert not (tmp_path / "out").exists()


def test_the_error_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        run_main(lambda: make_table.main(["kpis", str(tmp_path), "--output", str(tmp_path / "slides.csv")]))
    assert re.fullmatch(r"error: .*: nothing like GROUP/MOUSE_wsi.tiff \(unpack .*\)\n", capsys.readouterr().err)


@pytest.mark.parametrize("cohort", BUILDERS)
def test_the_help_names_every_cohort(cohort):
    assert f"\n  {cohort} " in make_table.build_parser().format_help()

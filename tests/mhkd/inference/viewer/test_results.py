from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from mhkd.inference.viewer.deep_zoom import DeepZoom
from mhkd.inference.viewer.results import find_views
from preprocess.base.errors import UserError
from preprocess.slides.files import fingerprint, neutral_name
from preprocess.slides.search import SlideFile
from preprocess.synthetic.svs import write_svs
from tests.mhkd.inference.viewer.conftest import OFFSET_XY
from tests.results import write_results


def test_results_find_their_slides_by_name(results, svs_slide):
    assert [(view.name, view.path and view.path.name) for view in results] == [
        ("discs", "discs.svs"),
        ("part", "part.scn"),
        ("zz-lost", None),
    ]


def test_slides_under_neutral_names_are_known_by_their_content(tmp_path, svs_slide):
    name = neutral_name(fingerprint(svs_slide))
    write_results(tmp_path, svs_slide, name=name, slide=f"{name}.svs", anonymized=True)
    (view,) = find_views(tmp_path, [SlideFile(svs_slide)])
    assert view.path == svs_slide
    with view.open() as slide:
        shown = json.dumps(view.describe(DeepZoom(slide)))
    assert name in shown
    assert "discs" not in shown


def test_slides_without_results_are_named(tmp_path, svs_slide, capsys):
    write_results(tmp_path, svs_slide)
    other = tmp_path / "other.svs"
    shutil.copy(svs_slide, other)
    assert len(find_views(tmp_path, [SlideFile(svs_slide), SlideFile(other)])) == 1
    assert "1 slides without results" in (said := capsys.readouterr().err)
    assert "other.svs" in said


def test_no_results_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no results of a search .*mhkd infer"):
        find_views(tmp_path, [])
    with pytest.raises(UserError, match="no such folder"):
        find_views(tmp_path / "none", [])


def test_boxes_are_in_the_frame_that_is_shown(results):
    view = results[1]
    with view.open() as slide:
        shown = view.describe(DeepZoom(slide))
    (found,) = shown["detections"]
    assert found["box"] == [410, 360, 590, 540]  # without OFFSET_XY
    assert OFFSET_XY != (0, 0)
    assert (shown["width"], shown["height"], found["diameter_um"]) == (2000, 1500, 90.0)


def test_another_slide_of_the_same_name_is_refused(results, tmp_path):
    other = write_svs(tmp_path / "other.svs", np.full((600, 800, 3), 255, np.uint8))
    (view,) = [view for view in results if view.name == "discs"]
    wrong = type(view)(view.folder, view.summary, other)
    with pytest.raises(UserError, match=r"800 x 600 px, .* searched 1500 x 1200"):
        wrong.open()
    with pytest.raises(UserError, match=r"zz-lost\.svs: where this slide lies was not said"):
        results[2].open()


def test_another_slide_of_the_same_name_and_size_is_refused(tmp_path, svs_slide):
    write_results(tmp_path, svs_slide, content=fingerprint(svs_slide))
    (tmp_path / "slides").mkdir()
    other = tmp_path / "slides" / svs_slide.name
    data = bytearray(svs_slide.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    (view,) = find_views(tmp_path, [SlideFile(other)])
    with pytest.raises(UserError, match=r"discs\.svs: this is not the slide that was searched"):
        view.open()
    (view,) = find_views(tmp_path, [SlideFile(other), SlideFile(svs_slide)])
    view.open().close()


def test_a_slide_is_measured_as_it_was_searched(tmp_path, svs_slide):
    write_results(tmp_path, svs_slide, mpp=0.25, mpp_source="given (the file says 0.5)")
    (view,) = find_views(tmp_path, [SlideFile(svs_slide)])
    with view.open() as slide:
        assert slide.mpp == 0.25


def test_another_search_is_another_version(tmp_path, svs_slide):
    write_results(tmp_path, svs_slide)
    (first,) = find_views(tmp_path, [SlideFile(svs_slide)])
    assert first.version == find_views(tmp_path, [SlideFile(svs_slide)])[0].version
    write_results(tmp_path, svs_slide, score_thresh=0.6)
    assert first.version != find_views(tmp_path, [SlideFile(svs_slide)])[0].version

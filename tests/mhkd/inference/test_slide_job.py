from __future__ import annotations

import shutil

import pytest

from mhkd.inference.slide_job import ModelFile, SearchOptions, SearchSpec, check_names, open_predictor
from preprocess.base.errors import UserError
from preprocess.slides.naming import name_slides
from preprocess.slides.search import SlideFile
from tests.blobs import BlobDetector, write_blob_slide
from tests.jobs import job_of, load_blobs, search


@pytest.fixture
def slide(tmp_path):
    return write_blob_slide(tmp_path / "a.svs")


def test_a_finished_slide_is_known_by_its_content_the_model_and_the_options(slide, tmp_path):
    out = tmp_path / "out"
    search(slide, out)
    assert job_of(slide, out).finished()["name"] == "a"
    # Neither of these changes what is found.
    assert job_of(slide, out, batch_size=1).finished() is not None
    slide.touch()
    assert job_of(slide, out).finished() is not None
    for other in (
        job_of(slide, out, score_thresh=0.6),
        job_of(slide, out, overlap=0.3),
        job_of(slide, out, tile_px=128),
        job_of(slide, out, merge_rule="nms"),
        job_of(slide, out, skip_unreadable=True),
        job_of(slide, out, mpp=0.4),
        job_of(slide, out, sha256="1" * 64),
        job_of(slide, out, backend="eager"),
        job_of(write_blob_slide(slide, discs=()), out),
    ):
        assert other.finished() is None
        assert other.searched() is None


def test_other_outputs_of_the_same_search_are_known_as_such(slide, tmp_path):
    out = tmp_path / "out"
    search(slide, out)
    for other in (
        job_of(slide, out, formats=("coco",)),
        job_of(slide, out, origin="slide"),
        job_of(SlideFile(slide, patient="P 1"), out),
    ):
        assert other.finished() is None
        assert other.searched() is not None


@pytest.mark.parametrize("lost", ["a.json", "a.csv", "a.weak.csv", "a.geojson"])
def test_a_slide_that_lost_a_file_is_not_finished(slide, tmp_path, lost):
    out = tmp_path / "out"
    search(slide, out)
    (out / lost).unlink()
    assert job_of(slide, out).finished() is None
    assert (job_of(slide, out).searched() is None) == (lost != "a.geojson")


def test_slides_that_would_overwrite_each_other_are_refused(slide, tmp_path):
    check_names([SlideFile(slide), SlideFile(tmp_path / "b.svs")])
    with pytest.raises(UserError, match=r"has the same name as .*a\.svs"):
        check_names([SlideFile(slide), SlideFile(tmp_path / "elsewhere" / "A.ndpi")])
    with pytest.raises(UserError, match="same name"):
        check_names([SlideFile(slide), SlideFile(tmp_path / "a.coco.svs")])  # whose summary would be a's COCO file
    copy = shutil.copy(slide, tmp_path / "b.svs")
    with pytest.raises(UserError, match=r"has the same content as .*a\.svs"):
        check_names(name_slides([SlideFile(slide), SlideFile(copy)], tmp_path, anonymize=True))


def test_the_model_is_loaded_once(slide, tmp_path, monkeypatch):
    loads = []

    def load(path, device, *, backend):
        loads.append((device, backend))
        return BlobDetector()

    open_predictor.cache_clear()
    model = ModelFile(load, slide, "0" * 64, threads=1)
    job = job_of(slide, tmp_path)
    spec = type(job.search)(model, job.search.options)
    assert open_predictor(spec)[0] is open_predictor(type(job.search)(model, SearchOptions()))[0]
    assert loads == [("cpu", "torch")]
    open_predictor.cache_clear()


def test_what_auto_means_is_part_of_the_search_and_where_it_runs_is_not(tmp_path):
    keys = {}
    for suffix in (".pth", ".onnx"):
        path = tmp_path / f"model{suffix}"
        path.write_bytes(b"the same bytes")
        for backend in ("auto", "torch", "onnxruntime"):
            for device in ("cpu", "cuda"):
                model = ModelFile.of(load_blobs, path, device, 0, backend=backend)
                keys[suffix, backend, device] = SearchSpec(model).key()
    assert keys[".pth", "auto", "cpu"] == keys[".pth", "auto", "cuda"] == keys[".pth", "torch", "cpu"]
    assert keys[".onnx", "auto", "cpu"] == keys[".onnx", "onnxruntime", "cpu"]
    assert keys[".onnx", "auto", "cpu"] != keys[".pth", "auto", "cpu"]


def test_a_missing_model_and_an_impossible_threshold_are_refused(tmp_path):
    with pytest.raises(UserError, match="checkpoint not found"):
        ModelFile.of(load_blobs, tmp_path / "none.pth", "cpu", 0)
    with pytest.raises(UserError, match="give 0 to 1"):
        SearchOptions(score_thresh=50)


def test_the_threshold_is_given_or_the_model_s_or_a_half():
    own = BlobDetector(score_thresh=0.7)
    assert SearchOptions(score_thresh=0.0).threshold(own) == (0.0, "given")
    thresh, origin = SearchOptions().threshold(own)
    assert thresh == 0.7
    assert origin == "stored with the model: it does not say how it was chosen"
    stated = BlobDetector(score_thresh=0.7, provenance={"score_thresh_origin": "best F1 on the validation tiles"})
    assert SearchOptions().threshold(stated) == (0.7, "stored with the model: best F1 on the validation tiles")
    assert SearchOptions().threshold(BlobDetector()) == (0.5, "default: the model has none")

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from mhkd.deploy.load import load_model
from mhkd.inference import cohort_runner
from mhkd.inference.cohort_runner import check_writable, result_lines, search_slides, total_line
from mhkd.inference.report.cohort import INDEX, TABLE
from mhkd.inference.slide_job import ModelFile, OutputSpec, SearchOptions, SearchSpec, SlideJob
from mhkd.inference.viewer.results import find_views
from preprocess.base.errors import UserError
from preprocess.jobs.job_result import JobResult
from preprocess.slides.naming import name_slides
from preprocess.slides.search import SlideFile
from tests.blobs import DISCS, write_blob_slide
from tests.jobs import contents, job_of, load_and_tell
from tests.pages import Page
from tests.two_gpus import load_and_note_device

VOLATILE = ("seconds", "peak_memory_mb")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    return [write_blob_slide(folder / f"{name}.svs", DISCS[:count]) for name, count in (("a", 6), ("b", 3), ("c", 0))]


def steady(folder: Path) -> dict[str, object]:
    """The outputs but for what says how long it took."""
    found = dict(contents(folder))
    for name in found:
        if name.count(".") == 1 and name.endswith(".json"):
            summary = json.loads(found[name])
            found[name] = {key: value for key, value in summary.items() if key not in VOLATILE}
    return found


def jobs_of(slides, folder, **options):
    return [job_of(slide, folder, formats=("geojson", "coco", "overlay"), **options) for slide in slides]


def test_the_outcomes_are_in_order_whatever_fails_and_the_failures_are_listed(slides, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.svs").write_bytes(b"not a slide")
    files = [slides[0], tmp_path / "bad" / "missing.svs", tmp_path / "bad" / "broken.svs", slides[1]]
    outcomes, skipped = search_slides(jobs_of(files, tmp_path / "out"))
    assert skipped == 0
    assert [outcome.error is None for outcome in outcomes] == [True, False, False, True]
    failed = pd.read_csv(tmp_path / "out" / "failed.csv")
    assert failed["slide"].tolist() == ["missing.svs", "broken.svs"]
    assert failed["error"][0] == "missing.svs: no such slide (check the path)"
    assert str(tmp_path) not in (tmp_path / "out" / "failed.csv").read_text()
    assert [line.split(":")[0] for line in result_lines(outcomes)] == ["a", "b"]
    assert total_line(outcomes).startswith("9 glomerulus in 0.8")
    # When all is well, nothing says that it was not.
    search_slides(jobs_of([slides[0]], tmp_path / "out"))
    assert not (tmp_path / "out" / "failed.csv").exists()


def test_failures_under_neutral_names_do_not_tell_the_names(tmp_path):
    secret = tmp_path / "Smith" / "Smith 1947.svs"
    secret.parent.mkdir()
    secret.write_bytes(b"no slide")
    job = job_of(SlideFile(secret, alias="slide-1"), tmp_path / "out")
    (outcome,), _ = search_slides([job])
    assert "Smith" in outcome.error  # on the terminal it must be known
    text = (tmp_path / "out" / "failed.csv").read_text()
    assert "Smith" not in text
    assert text.startswith("slide,error\nslide-1.svs,slide-1.svs: neither a slide")


def test_finished_slides_are_skipped_and_changed_ones_are_not_mixed_in(slides, tmp_path, capsys):
    out = tmp_path / "out"
    search_slides(jobs_of(slides, out))
    made = [path for path in out.iterdir() if path.name not in (INDEX, TABLE)]  # of all slides, made each time
    before = [path.stat().st_mtime_ns for path in made]
    outcomes, skipped = search_slides(jobs_of(slides, out))
    assert skipped == 3
    assert before == [path.stat().st_mtime_ns for path in made]
    assert [outcome.value["detections"]["total"] for outcome in outcomes] == [6, 3, 0]
    outcomes, skipped = search_slides(jobs_of(slides, out, score_thresh=0.9))
    assert skipped == 0
    assert "3 slides were searched with other options" in capsys.readouterr().err
    fresh = tmp_path / "fresh"
    search_slides(jobs_of(slides, fresh, score_thresh=0.9))
    assert steady(out) == steady(fresh)


def test_the_index_has_every_slide_of_the_run_also_those_of_an_earlier_one(slides, tmp_path):
    out, broken = tmp_path / "out", tmp_path / "broken.svs"
    broken.write_bytes(b"not a slide")
    search_slides([job_of(slides[0], out, formats=("report",))])
    jobs = [job_of(slide, out, formats=("report",)) for slide in (*slides, broken)]
    assert search_slides(jobs)[1] == 1
    table = pd.read_csv(out / TABLE, keep_default_na=False)
    assert table["slide"].tolist() == ["a.svs", "b.svs", "c.svs", "broken.svs"]
    assert table["detections"].tolist() == ["6", "3", "0", ""]
    assert table["error"][3].startswith("broken.svs: ")
    page = Page((out / INDEX).read_text())
    assert page.outside == ["a.report.html", "b.report.html", "c.report.html"]
    assert str(tmp_path) not in page.text


def test_a_slide_may_not_be_called_as_a_table_of_all_slides(slides, tmp_path):
    for name in ("cohort.svs", "Failed.svs", "evaluation.svs"):
        with pytest.raises(UserError, match="as one of all slides is"):
            search_slides([job_of(tmp_path / name, tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_copies_among_the_slides_are_said(slides, tmp_path, capsys):
    copy = shutil.copy(slides[0], tmp_path / "copy.svs")
    search_slides(jobs_of([*slides, copy], tmp_path / "out"))
    assert "note: copy.svs has the same content as a.svs: what is found there counts again" in capsys.readouterr().err


def test_leftovers_of_a_killed_process_are_removed(slides, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".{'0' * 32}.part.jpg").write_bytes(b"half")
    search_slides(jobs_of(slides[:1], tmp_path / "out"))
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def real_jobs(slides, folder, teacher, workers):
    model = ModelFile.of(load_model, teacher, "cpu", workers)
    spec = SearchSpec(model, SearchOptions(score_thresh=0.0))
    outputs = OutputSpec(folder, ("csv", "geojson", "coco", "overlay"))
    return [SlideJob.of(SlideFile(slide), spec, outputs) for slide in slides]


def test_the_same_bytes_for_any_number_of_workers(slides, teacher, tmp_path):
    for workers in (0, 2):
        outcomes, _ = search_slides(real_jobs(slides[:2], tmp_path / str(workers), teacher, workers), workers)
        assert [outcome.error for outcome in outcomes] == [None] * 2
    assert len(pd.read_csv(tmp_path / "0" / "a.csv")) > 20
    assert steady(tmp_path / "2") == steady(tmp_path / "0")


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_each_worker_loads_the_model_once(slides, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    path = tmp_path / "model.pth"
    path.write_bytes(b"")
    spec = SearchSpec(ModelFile.of(load_and_tell, path, "cpu", 1), SearchOptions())
    jobs = [SlideJob.of(SlideFile(slide), spec, OutputSpec(tmp_path / "out", ("csv",))) for slide in slides]
    outcomes, _ = search_slides(jobs, 1, engine=engine)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert len((tmp_path / "model.loads").read_text().splitlines()) == 1


def test_the_workers_of_one_machine_spread_over_its_gpus(slides, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    path = tmp_path / "model.pth"
    path.write_bytes(b"")
    spec = SearchSpec(ModelFile.of(load_and_note_device, path, "cuda", 2), SearchOptions())
    jobs = [SlideJob.of(SlideFile(slide), spec, OutputSpec(tmp_path / "out", ("csv",))) for slide in slides]
    outcomes, _ = search_slides(jobs, 2)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert sorted(path.with_suffix(".devices").read_text().split()) == ["cuda:0", "cuda:1"]
    assert "share" not in capsys.readouterr().err


def test_workers_that_share_a_gpu_say_so_once(slides, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cohort_runner, "run_cohort", lambda run, items, *_, **__: [JobResult(job) for job in items])
    path = tmp_path / "model.pth"
    path.write_bytes(b"")
    spec = SearchSpec(ModelFile.of(load_and_note_device, path, "cuda", 2), SearchOptions())
    jobs = [SlideJob.of(SlideFile(slide), spec, OutputSpec(tmp_path / "out", ("csv",))) for slide in slides]
    search_slides(jobs, 2)
    assert capsys.readouterr().err.count("note: 2 workers share one GPU") == 1


def test_on_ray_as_on_one_machine(slides, teacher, tmp_path):
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    search_slides(real_jobs(slides, tmp_path / "local", teacher, 0))
    outcomes, _ = search_slides(real_jobs(slides, tmp_path / "ray", teacher, 0), 2, engine="ray")
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert steady(tmp_path / "ray") == steady(tmp_path / "local")


def test_a_full_disk_ends_the_run(slides, tmp_path, monkeypatch):
    replaced = os.replace

    def full(source, target):
        if str(target).endswith("b.csv"):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replaced(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        search_slides(jobs_of(slides, tmp_path / "out"))
    assert {name.split(".")[0] for name in contents(tmp_path / "out")} == {"a"}
    monkeypatch.undo()
    outcomes, skipped = search_slides(jobs_of(slides, tmp_path / "out"))
    assert skipped == 1
    assert all(outcome.error is None for outcome in outcomes)


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        check_writable(tmp_path / "file" / "out")
    check_writable(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written to"):
        check_writable(tmp_path / "new")


def test_results_of_another_slide_are_never_replaced(slides, tmp_path):
    for folder, slide in zip("xy", slides, strict=False):
        (tmp_path / folder).mkdir()
        shutil.copy(slide, tmp_path / folder / "1.svs")
    out = tmp_path / "out"
    search_slides(jobs_of([tmp_path / "x" / "1.svs"], out))
    before = (out / "1.json").read_bytes()
    with pytest.raises(UserError, match="holds the results of another slide of this name"):
        search_slides(jobs_of([tmp_path / "y" / "1.svs"], out))
    assert (out / "1.json").read_bytes() == before
    # The same slide in a new place is the same, and so is another one in the place of the old.
    (tmp_path / "x").rename(tmp_path / "z")
    assert search_slides(jobs_of([tmp_path / "z" / "1.svs"], out))[1] == 1
    search_slides(jobs_of([tmp_path / "z" / "1.svs"], out, score_thresh=0.9))
    shutil.copy(slides[1], tmp_path / "z" / "1.svs")
    assert search_slides(jobs_of([tmp_path / "z" / "1.svs"], out, score_thresh=0.9))[1] == 0


def test_slides_of_one_name_have_outputs_of_their_own(slides, tmp_path):
    files = []
    for folder, slide in zip("xy", slides, strict=False):
        (tmp_path / folder).mkdir()
        files.append(SlideFile(Path(shutil.copy(slide, tmp_path / folder / "1.svs"))))
    named = name_slides(files, tmp_path / "out")
    outcomes, _ = search_slides(jobs_of(named, tmp_path / "out"))
    assert [outcome.value["detections"]["total"] for outcome in outcomes] == [6, 3]
    views = find_views(tmp_path / "out", files)
    assert {view.name: view.path for view in views} == {file.name: file.path for file in named}

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from preprocess.annotations.class_map import ClassMap
from preprocess.base.errors import UserError
from preprocess.tiles.options import add_tile_options, parse_tile_options, read_classes, read_options, read_spec
from preprocess.tiles.pairs import PairSpec

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def parse(tmp_path):
    """A function that parses options over those of a file."""

    def parsed(text, *argv):
        path = tmp_path / "tiles.yaml"
        path.write_text(text)
        parser = argparse.ArgumentParser()
        add_tile_options(parser)
        return parse_tile_options(parser, ["--options-file", str(path), *argv])

    return parsed


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(parse):
    text = "teacher_mpp: 2\nstudent_mpp: 8.0\ntile_px: 256\nlabels: [a, 3, No]\nsplit: 0.8/0.2/0\nempty_ratio: null\n"
    args = parse(text, "--tile-px", "512")
    assert read_spec(args) == PairSpec(teacher_mpp=2, student_mpp=8, tile_px=512, empty_ratio=1.0)
    assert (args.labels, args.split, args.stratify) == (["a", "3", "No"], "0.8/0.2/0", None)
    # Also where the command line says what the default is.
    assert read_spec(parse(text, "--teacher-mpp", "1")).teacher_mpp == 1


def test_a_file_may_build_on_another_and_paths_in_it_are_its_own(parse, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "tiles.yaml").write_text("tile_px: 128\noverlap: 0.5\nclass_map: map.yaml\n")
    (tmp_path / "base" / "map.yaml").write_text("gs: Glomerulus\n")
    args = parse("_BASE_: base/tiles.yaml\ntile_px: 64\n")
    assert (args.tile_px, args.overlap, args.min_tissue) == (64, 0.5, 0.1)
    assert read_classes(args) == ClassMap.of({"gs": "Glomerulus"})
    # What is said of classes on the command line stands for all of it.
    assert read_classes(parse("_BASE_: base/tiles.yaml\n", "--merge-labels", "x")) == ClassMap.choose(None, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tile_size: 256\n", "tiles.yaml: unknown option 'tile_size' (the options are teacher_mpp, student_mpp, "),
        ("workers: 2\n", "tiles.yaml: unknown option 'workers'"),
        ("teacher_mpp: fast\n", "teacher_mpp: 'fast' is no number"),
        ("tile_px: 2.5\n", "tile_px: '2.5' is no whole number"),
        ("tile_px: [256]\n", "tile_px is ['256'], not one value"),
        ("labels: a\n", "labels is 'a', not a list"),
        ("annotation_origin: corner\n", "annotation_origin is 'corner' (choose one of"),
        ("- a\n", "a file of tile options without entries"),
        ("", "a file of tile options without entries"),
        ("a: [\n", "no readable file of tile options"),
        ("_BASE_: tiles.yaml\n", "_BASE_ leads round in a circle"),
        ("_BASE_: none.yaml\n", "none.yaml: no such file of tile options (copy configs/demo/tiles.yaml"),
    ],
)
def test_wrong_files_are_one_clear_line(parse, text, message):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_two_ways_to_choose_classes_are_one_too_many(parse):
    with pytest.raises(UserError, match="--class-map does what --labels and --merge-labels do"):
        read_classes(parse("tile_px: 256\n", "--class-map", "x.yaml", "--labels", "a"))


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in REPOSITORY.glob("configs/*/teacher.yaml")))
def test_every_folder_of_configurations_says_how_its_tiles_are_cut(folder, parse):
    path = REPOSITORY / "configs" / folder / "tiles.yaml"
    spec = read_spec(args := parse(f"_BASE_: {path}\n"))
    assert (spec.teacher_mpp, spec.student_mpp, spec.tile_px) == ((1, 4, 1024) if folder == "resnet50" else (2, 8, 256))
    assert read_classes(args) == ClassMap.choose(None, "Glomerulus" if folder == "bundled" else None)
    assert set(read_options(path)) >= {"teacher_mpp", "student_mpp", "tile_px", "empty_ratio"}

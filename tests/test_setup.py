"""What the set-up promises: packages and commands listed, a lock with hashes, steps built in order and once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from mhkd import cli

REPOSITORY = Path(__file__).parents[1]
MODELS = ("baseline_independent", "baseline_strict", "distill/step1", "distill/step2", "distill/step3", "teacher")


@pytest.fixture(scope="module")
def setup_cfg() -> ConfigParser:
    parser = ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def names(requirements: str) -> set[str]:
    found = re.findall(r"^\s*([A-Za-z0-9][\w.-]*)", requirements, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


def lock(name: str) -> str:
    return (REPOSITORY / "requirements" / f"{name}.lock").read_text(encoding="utf-8")


def test_every_package_is_listed(setup_cfg):
    found = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for room in ("mhkd", "preprocess")
        for path in (REPOSITORY / room).rglob("__init__.py")
    }
    listed = set(setup_cfg["options"]["packages"].split())
    assert listed == found | {"mhkd.tools", "mhkd.configs"}


def test_every_tool_has_one_command(setup_cfg):
    assert setup_cfg["options.entry_points"]["console_scripts"].split() == ["mhkd", "=", "mhkd.cli:main"]
    tools = {path.stem for path in (REPOSITORY / "tools").glob("*.py")} - {"__init__"}
    assert sorted(tool for tool, _ in cli.COMMANDS.values()) == sorted(tools)


def test_the_lock_covers_what_is_declared(setup_cfg):
    declared = names(setup_cfg["options"]["install_requires"]) | names(setup_cfg["options.extras_require"]["dev"])
    assert declared <= names(lock("requirements"))


@pytest.mark.parametrize("name", ["bootstrap", "detectron2", "requirements"])
def test_every_locked_package_is_pinned_and_hashed(name):
    packages = re.split(r"\n(?=\S)", lock(name).strip())
    for package in packages:
        assert re.match(r"[\w.-]+==\S+ (; [^\n]+ )?\\\n", package), package
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", package), package


def test_the_lock_keeps_the_versions_that_work_together():
    locked = lock("requirements")
    for pin in ("torch==2.11.0 ", "torchvision==0.26.0 ", "setuptools==81."):
        assert f"\n{pin}" in locked
    assert re.findall(r"sha256:(\w+)", lock("detectron2")) == [
        "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
    ]


def make(*arguments: str) -> str:
    command = ["make", "--no-print-directory", "-C", str(REPOSITORY), *arguments]
    # The make that runs these tests hands its own options down.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def test_help_names_the_targets_and_the_variables():
    shown = make("help")
    for word in ("setup", "lock", "check", "test", "demo-slides", "tiles", "train-step2", "evaluate", "demo", "clean"):
        assert f"make {word} " in shown
    assert "DETECTRON2" in shown


def planned(*arguments: str, out: str = "none") -> list[tuple[str, str]]:
    """The tools that make would run for ``arguments`` on a clean clone, each with its output folder.

    Of a training step it is the folder of what the step exports.
    """
    commands = make("--dry-run", *([f"OUT={out}"] if out else []), *arguments).replace("\\\n", " ")
    found = re.findall(r"tools/(\w+)\.py.*?--output-dir '?([^' ]+)'?([^\n]*)", commands)
    steps = [re.search(r"--until-step (\d)", options) for *_, options in found]
    return [
        (tool, f"{folder}/step{step[1]}" if step else folder)
        for (tool, folder, _), step in zip(found, steps, strict=True)
    ]


def test_a_step_builds_what_it_needs_in_order():
    """The teacher's labels too, whatever the table: it may be made by the same call, and say it in many ways."""
    assert planned("train-step2", "SLIDES=setup.cfg") == [
        ("make_tiles", "none/tiles"),
        ("train", "none/teacher"),
        ("pseudo_labels", "none/pseudo_labels"),
        ("train", "none/distill/step1"),
        ("train", "none/distill/step2"),
    ]
    commands = make("--dry-run", "OUT=none", "train-step2", "SLIDES=setup.cfg").replace("\\\n", " ")
    trained = re.findall(r"tools/train\.py[^\n]*", commands)
    assert ["--pseudo-labels 'none/pseudo_labels'" in command for command in trained] == [False, True, True]


def test_a_one_stage_detector_has_no_second_step():
    steps = planned("train-step3", "SLIDES=setup.cfg", "CONFIGS=configs/fcos")
    trained = [folder for tool, folder in steps if tool == "train"]
    assert trained == ["none/teacher", "none/distill/step1", "none/distill/step3"]


def test_the_demo_has_slides_that_nobody_annotated():
    commands = make("--dry-run", "OUT=none", "demo-slides")
    if not (REPOSITORY / "data" / "demo" / "slides.csv").exists():
        assert "--unlabelled 12" in commands


@pytest.mark.parametrize("configs", ["reference", "reference_native"])
def test_recipes_of_the_evidence_can_be_made(configs):
    steps = planned("evaluate", "SLIDES=setup.cfg", f"CONFIGS=configs/{configs}")
    assert sorted(folder for tool, folder in steps if tool == "train") == [f"none/{name}" for name in MODELS]
    commands = make("--dry-run", "OUT=none", "evaluate", "SLIDES=setup.cfg", f"CONFIGS=configs/{configs}")
    assert commands.count("--init") == {"reference": 4, "reference_native": 0}[configs]


def test_the_demo_trains_every_model_once_and_ends_with_the_table():
    steps = planned("demo", "SLIDES=setup.cfg")
    trained = [folder for tool, folder in steps if tool == "train"]
    assert sorted(trained) == [f"none/{name}" for name in MODELS]
    assert steps[-1] == ("evaluate", "none/evaluation")


@pytest.mark.parametrize("made", ["teacher", "baseline_strict", "distill/step3"])
def test_a_finished_model_is_not_trained_again(made):
    (trained,) = [folder for tool, folder in planned(f"none/{made}/detector.pth", *finished(made)) if tool == "train"]
    assert trained == f"none/{made}"


def finished(model: str) -> list[str]:
    """Options that let make take every other model, and the tiles, for finished."""
    others = [f"none/{name}/detector.pth" for name in MODELS if name != model]
    made = ("none/tiles/manifest.json", "none/pseudo_labels/labels.json", *others)
    return [option for file in made for option in ("-o", file)]


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ((), "output/demo"),
        (("CONFIGS=configs/fcos/",), "output/fcos"),
        (("SEED=2",), "output/demo-seed2"),
        (("SLIDES=data/hubmap/slides.csv", "CONFIGS=configs/resnet50"), "output/hubmap/resnet50"),
        (("SLIDES=data/hubmap/slides.csv", "SEED=3"), "output/hubmap/demo-seed3"),
        (("SLIDES=../mine.csv",), "output/mine/demo"),
        (("SLIDES=slides.csv",), "output/slides/demo"),
        (("SLIDES=my slides/the table.csv",), "output/the_table/demo"),
        (("SLIDES=my slides/slides.csv",), "output/my_slides/demo"),
        (("SLIDES=mine.csv", "OUT=out/"), "out"),
    ],
)
def test_no_run_shows_the_results_of_another(arguments, folder):
    tools = planned("evaluate", *arguments, out="")
    assert ("make_tiles", f"{folder}/tiles") in tools
    assert tools[-1] == ("evaluate", f"{folder}/evaluation")


def test_the_demo_slides_are_made_where_their_table_is_missing_and_no_other_table_is():
    made = [tool for tool, _ in planned("tiles", "SLIDES=mine.csv")]
    assert made == ["make_tiles"]
    if not (REPOSITORY / "data" / "demo" / "slides.csv").exists():
        assert [tool for tool, _ in planned("tiles")] == ["make_demo_slides", "make_tiles"]


# What stands in for the tools: it notes its call, and writes what they would, the manifest only where it changes.
STAND_IN = """#!/bin/bash
set -e
tool=$(basename "$1" .py); table="$2"; options="$*"; out=; step=
while [ $# -gt 0 ]; do
  case "$1" in --output-dir) out="$2";; --slides) table="$2";; --until-step) step="/step$2";; esac; shift
done
out="$out$step"
echo "$tool $out" >> "$CALLS"
mkdir -p "$out"
case $tool in
  make_tiles)
    head -n 1 "$table" > "$out/new"; echo "$options" >> "$out/new"
    if cmp -s "$out/new" "$out/manifest.json"; then rm "$out/new"; else mv "$out/new" "$out/manifest.json"; fi
    grep -q broken "$table" && exit 3 || exit 0;;
  train) echo "$options" > "$out/detector.pth";;
  pseudo_labels) touch "$out/labels.json";;
  evaluate) cat "$table" > "$out/evaluation.md"; touch "$out/evaluation.json";;
esac
"""


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A function that really makes a target with a stand-in for the tools: the tools called, and what was printed."""
    venv = tmp_path / "the venv"
    python = venv / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN)
    python.chmod(0o755)
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))

    def run(*arguments: str) -> tuple[list[str], str]:
        calls.write_text("")
        place = (f"VENV={venv}", "-o", f"{venv}/.ready", f"OUT={tmp_path / 'out'}")
        printed = make(*place, *arguments)
        return [line.split()[0] for line in calls.read_text().splitlines()], printed

    return run


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "my slides" / "it's one.csv"
    path.parent.mkdir()
    path.write_text("slide,annotation\na.svs,a.geojson\n")
    return path


def test_tiles_are_always_asked_for_and_what_follows_is_made_again_only_where_they_changed(built, table):
    everything = ["make_tiles", *["train"] * len(MODELS), "pseudo_labels", "evaluate"]
    called, printed = built("evaluate", f"SLIDES={table}")
    assert sorted(called) == sorted(everything)
    assert "a.svs,a.geojson" in printed
    called, printed = built("evaluate", f"SLIDES={table}")
    assert called == ["make_tiles"]
    assert "a.svs,a.geojson" in printed
    called, _ = built("evaluate", f"SLIDES={table}", "TILE_OPTS=--tile-px 128")
    assert sorted(called) == sorted(everything)
    assert built("tiles", f"SLIDES={table}")[0] == ["make_tiles"]


def test_another_table_is_never_answered_with_the_old_one_s_results(built, table):
    built("evaluate", f"SLIDES={table}")
    # The tiles stay the same (a stain was filled in, say), and the table is older than the results.
    table.write_text("slide,annotation\nb.svs,b.geojson\n")
    os.utime(table, (0, 0))
    called, printed = built("evaluate", f"SLIDES={table}")
    assert called == ["make_tiles", "evaluate"]
    assert "b.svs,b.geojson" in printed


def test_slides_that_failed_end_make_tiles_but_not_training(built, table):
    table.write_text("slide,annotation\nbroken.svs,a.geojson\n")
    with pytest.raises(subprocess.CalledProcessError):
        built("tiles", f"SLIDES={table}")
    assert built("train-teacher", f"SLIDES={table}")[0] == ["make_tiles", "train"]


def test_a_copied_folder_of_configurations_brings_its_tile_options(built, table, tmp_path):
    configs = tmp_path / "elsewhere" / "mine"
    shutil.copytree(REPOSITORY / "configs" / "demo", configs)
    built("tiles", f"SLIDES={table}", f"CONFIGS={configs}/", "TILE_OPTS=--tile-px 128")
    options = (tmp_path / "out" / "tiles" / "manifest.json").read_text()
    assert f"--options-file {configs}/tiles.yaml --tile-px 128" in options


def test_every_path_may_hold_spaces(built, table, tmp_path):
    configs = tmp_path / "my  own configs" / "it's mine"
    shutil.copytree(REPOSITORY / "configs" / "demo", configs)
    places = (f"OUT={tmp_path}/my out/", f"TILES={tmp_path}/my tiles", f"CONFIGS={configs}/", f"SLIDES={table}")
    called, printed = built("evaluate", *places)
    assert sorted(called) == sorted(["make_tiles", *["train"] * len(MODELS), "pseudo_labels", "evaluate"])
    assert "a.svs,a.geojson" in printed
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("my ")) == [
        "my  own configs", "my out", "my slides", "my tiles",
    ]  # fmt: skip
    options = (tmp_path / "my out" / "distill" / "step2" / "detector.pth").read_text()
    assert f"--config-file {configs}/distill.yaml --tiles {tmp_path}/my tiles" in options
    assert f"--teacher {tmp_path}/my out/teacher/detector.pth" in options
    assert built("evaluate", *places)[0] == ["make_tiles"]
    os.utime(configs / "Base-demo.yaml")
    assert sorted(built("evaluate", *places)[0]) == sorted(called)

"""What the set-up promises: packages and commands listed, a lock with hashes, steps built in order and once."""

from __future__ import annotations

import os
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from mhkd import launch

REPOSITORY = Path(__file__).parents[1]
MODELS = ("baseline_independent", "baseline_strict", "step1", "step2", "step3", "teacher")


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
    commands = setup_cfg["options.entry_points"]["console_scripts"].strip().splitlines()
    run = [getattr(launch, command.rpartition(":")[2]).args[0] for command in commands]
    tools = {path.stem for path in (REPOSITORY / "tools").glob("*.py")} - {"__init__"}
    assert sorted(run) == sorted(tools)


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


def planned(*arguments: str) -> list[tuple[str, str]]:
    """The tools that make would run for ``arguments`` on a clean clone, each with its output folder."""
    commands = make("--dry-run", "OUT=none", *arguments)
    return re.findall(r"tools/(\w+)\.py.*?--output-dir (\S+)", commands.replace("\\\n", " "))


def test_a_step_builds_what_it_needs_in_order():
    assert planned("train-step2", "SLIDES=setup.cfg") == [
        ("make_tiles", "none/tiles"),
        ("train", "none/teacher"),
        ("train", "none/step1"),
        ("train", "none/step2"),
    ]


def test_the_demo_trains_every_model_once_and_ends_with_the_table():
    steps = planned("demo", "SLIDES=setup.cfg")
    trained = [folder for tool, folder in steps if tool == "train"]
    assert sorted(trained) == [f"none/{name}" for name in MODELS]
    assert steps[-1] == ("evaluate", "none/evaluation")


@pytest.mark.parametrize("made", ["teacher", "baseline_strict", "step3"])
def test_a_finished_model_is_not_trained_again(made):
    (trained,) = [folder for tool, folder in planned(f"none/{made}/detector.pth", *finished(made)) if tool == "train"]
    assert trained == f"none/{made}"


def finished(model: str) -> list[str]:
    """Options that let make take every other model, and the tiles, for finished."""
    others = [f"none/{name}/detector.pth" for name in MODELS if name != model]
    return [option for file in ("none/tiles/manifest.json", *others) for option in ("-o", file)]

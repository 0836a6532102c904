"""The wheel, installed where there is no repository: every file is in it, commands start, and slides are searched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from mhkd.cli import COMMANDS
from tests.blobs import write_annotations, write_blob_slide, write_cohort

REPOSITORY = Path(__file__).parents[1]
NO_NETWORK = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
# Each subcommand as the shell would run it, but all in one process: most of the time goes into importing torch.
ALL_HELP = """
import contextlib, io, runpy, sys
from mhkd.cli import COMMANDS
script = sys.argv[1]
for name in COMMANDS:
    shown = io.StringIO()
    sys.argv = [script, name, "--help"]
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    print(name, shown.getvalue().startswith(f"usage: mhkd {name} "))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves its leftovers beside the source."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("mhkd", "preprocess", "tools", "configs"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip("wheel", *NO_NETWORK, "--no-build-isolation", "--wheel-dir", folder, source)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory) -> Path:
    """The folder of the commands of an environment that has the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # Only the folders: their own .pth files, one of which leads to the repository, are not followed from here.
    ours = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "dependencies.pth").write_text("\n".join(ours) + "\n")
    pip("--python", folder / "bin" / "python", "install", *NO_NETWORK, wheel)
    return folder / "bin"


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run(folder: Path, *command: str | Path) -> str:
    """What ``command`` prints in ``folder``, without this repository on Python's path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MHKD"))}
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_every_file_of_the_product_and_nothing_else(wheel):
    places = {"mhkd": "mhkd", "preprocess": "preprocess", "tools": "mhkd/tools", "configs": "mhkd/configs"}
    wanted = {
        f"{place}/{path.relative_to(REPOSITORY / room).as_posix()}"
        for room, place in places.items()
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and (room != "tools" or path.parent.name == "tools")  # not benchmarks and dev
        and (room != "configs" or path.suffix == ".yaml")
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_code_comes_from_the_wheel(commands, tmp_path):
    names = ("mhkd.cli", "mhkd.tools.train", "preprocess.base.errors")
    script = "import importlib.util, sys; print(*(importlib.util.find_spec(name).origin for name in sys.argv[1:]))"
    places = run(tmp_path, commands / "python", "-c", script, *names).split()
    assert [Path(place).is_relative_to(commands.parent) for place in places] == [True] * 3


def test_every_command_explains_itself(commands, tmp_path):
    shown = run(tmp_path, commands / "python", "-c", ALL_HELP, commands / "mhkd")
    assert shown.splitlines() == [f"{name} True" for name in COMMANDS]
    assert [path.name for path in commands.glob("mhkd*")] == ["mhkd"]


def test_the_list_of_commands_imports_no_tool(commands, tmp_path):
    shown = "import runpy, sys; sys.argv = ['mhkd']; runpy.run_module('mhkd', run_name='__main__')"
    script = f"import sys\ntry:\n    {shown}\nfinally:\n    print(*sys.modules)"
    *listed, modules = run(tmp_path, commands / "python", "-c", script).splitlines()
    assert "    infer " in "\n".join(listed)
    assert not {"torch", "detectron2", "numpy", "cv2"} & set(modules.split())


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_the_shell_completes_commands_and_options(commands, tmp_path):
    script = tmp_path / "completion"
    script.write_text(run(tmp_path, commands / "mhkd", "--print-completion", "bash"))
    typed = {"mhkd ev": {"evaluate", "evidence"}, "mhkd infer --back": {"--backend"}, "mhkd infer comp": {"completion"}}
    for line, offered in typed.items():
        words = f"COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}"
        ask = f'. {script}; {words}; _shtab_mhkd; echo "${{COMPREPLY[@]}}"'
        assert offered <= set(run(tmp_path, "bash", "-c", ask).split())


def test_the_training_configurations_are_found_without_the_repository(commands, tmp_path):
    script = (
        "from mhkd.config import read_config; print(read_config('configs/native/teacher.yaml').SOLVER.MAX_ITER > 0)"
    )
    assert run(tmp_path, commands / "python", "-c", script).split() == ["True"]


def test_tiles_are_cut_in_an_empty_folder(commands, tmp_path):
    write_blob_slide(tmp_path / "a.svs")
    write_annotations(tmp_path / "a.geojson")
    row = {"slide": "a.svs", "annotation": "a.geojson", "patient": "P1", "split": "train"}
    table = write_cohort(tmp_path, [row])
    sizes = ("--teacher-mpp", "1", "--student-mpp", "4", "--tile-px", "384", "--workers", "0")
    run(tmp_path, commands / "mhkd", "tiles", table.name, "--output-dir", "tiles", *sizes)
    assert list((tmp_path / "tiles").rglob("*.png"))


def test_a_slide_is_searched_with_the_bundled_model_in_an_empty_folder(commands, tmp_path):
    write_blob_slide(tmp_path / "a.svs")
    printed = run(tmp_path, commands / "mhkd", "infer", "a.svs", "--output-dir", "results", "--device", "cpu")
    assert "glomeruli-8um" in printed
    assert json.loads((tmp_path / "results" / "a.json").read_text())["model"]["name"] == "glomeruli-8um"
    assert "glomeruli-8um" in (tmp_path / "results" / "a.report.html").read_text()

from __future__ import annotations

from pathlib import Path

import pytest

from tools.dev import check_house

REPOSITORY = Path(__file__).parents[3]
CODE = "".join(f"value_{n} = compute({n})\n" for n in range(40))


@pytest.fixture
def house(tmp_path: Path):
    """A function that writes files into an empty house and returns what the rules say of it, one line each."""

    def check(files: dict[str, str]) -> list[str]:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return [": ".join(finding) for rule in check_house.CHECKS for finding in rule(tmp_path)]

    return check


def test_this_repository_keeps_the_rules(capsys):
    assert check_house.main(["--root", str(REPOSITORY)]) == 0, capsys.readouterr().out


def test_a_house_in_order_has_no_finding(house):
    assert house({"mhkd/a.py": CODE, "tests/mhkd/test_a.py": "", "tests/test_whole.py": "", "Makefile": "all:\n"}) == []


@pytest.mark.parametrize(("name", "limit"), [("mhkd/long.py", 400), ("tools/long.py", 120), ("Makefile", 400)])
def test_long_files_are_named_at_the_first_line_too_many(house, name, limit):
    lines = [f"line_{n}\n" for n in range(limit + 1)]
    assert house({name: "".join(lines[:-1])}) == []
    assert house({name: "".join(lines)}) == [
        f"{name}:{limit + 1}: {limit + 1} lines, and {limit} is the most: split it"
    ]


def test_a_lock_may_be_long(house):
    assert house({"requirements/all.lock": "".join(f"package-{n}==1\n" for n in range(500))}) == []


def test_paths_of_one_machine_and_registry_hosts_are_found(house):
    findings = house(
        {
            "mhkd/a.py": 'import os\nDATA = "/ho' + 'me/ada/slides"\n',
            "requirements/a.lock": "--index-" + "url https://some.where/simple\n",
            "docs/a.md": "Slides lie in `data/home/x`, see https://host.org/work/page and $HOME/slides.\n",
        }
    )
    assert [finding.partition(" names")[0] for finding in findings] == ["mhkd/a.py:2:", "requirements/a.lock:1:"]


def test_paths_links_and_modules_that_do_not_exist_are_found(house):
    files = {
        "README.md": (
            "Run `tools/cut.py`, see [there](docs/a.md#part) and [elsewhere](https://host.org/docs/none.md).\n"
            "`configs/NAME/teacher.yaml`, `configs/*/teacher.yaml`, output/tools/none, mhkd.engine.\n"
            "`tools/gone.py` and `configs/NAME/gone.yaml`, not mhkd.engine.run.start.\n"
            "[Nothing](docs/b.md).\n"
            "`mhkd.engine.run.stop` and mhkd.engine.walk.\n"
        ),
        "docs/a.md": "",
        "tools/cut.py": "# as docs/c.md says\n",
        "configs/demo/teacher.yaml": "",
        "mhkd/engine/run.py": "def start():\n    stop = 1\n",
        "CHANGELOG.md": "`tools/old.py`\n",
        "tests/test_a.py": "PATH = 'tools/made_up.py'\n",
    }
    assert house(files) == [
        f"{place}, which does not exist"
        for place in (
            "README.md:3: names tools/gone.py",
            "README.md:3: names configs/NAME/gone.yaml",
            "README.md:4: names docs/b.md",
            "README.md:5: names mhkd.engine.run.stop",
            "README.md:5: names mhkd.engine.walk",
            "tools/cut.py:1: names docs/c.md",
        )
    ]


def test_a_test_without_its_source_is_found(house):
    findings = house(
        {"mhkd/a.py": "", "mhkd/b/__init__.py": "", "tests/mhkd/test_a.py": "", "tests/mhkd/test_b.py": ""}
    )
    assert findings == []
    assert house({"tests/mhkd/test_gone.py": ""}) == [
        "tests/mhkd/test_gone.py:1: tests mhkd/gone.py, which does not exist: tests mirror the source"
    ]


def test_a_test_that_needs_a_gpu_mirrors_the_source_too(house):
    files = {"mhkd/module.py": "", "tests/gpu/mhkd/test_module.py": "", "tests/gpu/mhkd/test_gone.py": ""}
    assert house(files) == [
        "tests/gpu/mhkd/test_gone.py:1: tests mhkd/gone.py, which does not exist: tests mirror the source"
    ]


def test_deep_and_dangling_bases_are_found(house):
    chain = {f"configs/{n}.yaml": f'_BASE_: "{n - 1}.yaml"\n' for n in range(1, 4)}
    assert house({"configs/0.yaml": "SEED: 1\n", **chain}) == []
    assert house({"configs/4.yaml": "_BASE_: 3.yaml\n"}) == ["configs/4.yaml:1: _BASE_ is more than 3 files deep"]
    assert "configs/5.yaml:1: _BASE_ leads nowhere: none.yaml" in house({"configs/5.yaml": "_BASE_: none.yaml\n"})


def test_a_base_that_names_itself_ends(house):
    assert len(house({"configs/a.yaml": "_BASE_: a.yaml\n"})) == 1


def test_repeated_lines_count_only_in_runs_and_beyond_the_share(house):
    own = "".join(f"own_{n} = compute({n})\n" for n in range(400))
    assert house({"mhkd/a.py": own, "mhkd/b.py": CODE[:100], "preprocess/c.py": CODE[:100]}) == []
    findings = house({"mhkd/b.py": CODE, "preprocess/c.py": "import os\n\n" + CODE})
    assert findings[0].startswith("mhkd/b.py:1: stands again at preprocess/c.py:3 (")


def test_findings_are_printed_and_fail_the_check(tmp_path, capsys):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yaml").write_text("_BASE_: b.yaml\n", encoding="utf-8")
    assert check_house.main(["--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "configs/a.yaml:1: _BASE_ leads nowhere: b.yaml",
        "house rules: 1 finding in 1 files",
    ]

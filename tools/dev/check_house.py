"""The house rules that no linter knows: file sizes, mirrored tests, repeated lines, paths, shallow configs."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from preprocess.base.console import EXIT_ERROR, EXIT_OK, command_parser, run_main

ROOMS = ("mhkd", "preprocess", "configs", "tools", "tests", "docs", "requirements", ".ci")
TEXT = {".py", ".md", ".cfg", ".toml", ".in", ".lock", ".yaml", ".yml", ""}
MAX_LINES, MAX_TOOL_LINES, MAX_BASE_DEPTH = 400, 120, 3
WINDOW, MAX_REPEATED = 6, 0.02
MACHINE_PATH = re.compile(r"(?<![\w.:/>}])/(?:work|home|root|tmp|Users|mnt|srv|scratch)/\w")
REGISTRY_HOST = re.compile(r"(?:pypi|pythonhosted|npmjs|anaconda|debian)\.org|--(?:extra-)?index-url|--find-link[s]")
OWN_PATH = re.compile(rf"(?<![\w./~$}}>)-])(?:{'|'.join(map(re.escape, ROOMS))})/[\w./*-]*")
OWN_MODULE = re.compile(r"(?<![\w./-])((?:mhkd|preprocess|tools)(?:\.\w+)+)")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
Finding = tuple[str, str]  # "file:line", reason


def house_files(root: Path) -> list[Path]:
    """The project's own text files: what stands in its rooms, and at the top (but .git, a file in a work tree)."""
    inside = (path for room in ROOMS for path in (root / room).rglob("*") if "__pycache__" not in path.parts)
    return sorted(
        path for path in (*inside, *root.glob("*")) if path.is_file() and path.suffix in TEXT and path.name != ".git"
    )


def check_sizes(root: Path) -> Iterator[Finding]:
    for path in house_files(root):
        limit = MAX_TOOL_LINES if path.parent == root / "tools" else MAX_LINES
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > limit and path.suffix != ".lock":
            yield f"{path.relative_to(root)}:{limit + 1}", f"{count} lines, and {limit} is the most: split it"


def check_machine(root: Path) -> Iterator[Finding]:
    for path in house_files(root):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for pattern, what in ((MACHINE_PATH, "a path of one machine"), (REGISTRY_HOST, "a package registry")):
                if match := pattern.search(line):
                    yield f"{path.relative_to(root)}:{number}", f"names {what}: {match[0]}"


def check_names(root: Path) -> Iterator[Finding]:
    """Paths, links and modules that texts name exist, but for those of the past (CHANGELOG.md) and those of tests.

    In a path a part in capitals stands for any name, as in ``configs/NAME/teacher.yaml``.
    """
    for path in house_files(root):
        if path.name == "CHANGELOG.md" or path.is_relative_to(root / "tests"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            names = [name.rstrip("./-") for name in OWN_PATH.findall(line)]
            missing = [name for name in names if not any(root.glob(re.sub(r"\b[A-Z_]{2,}(?=/|$)", "*", name)))]
            if path.suffix == ".md":
                missing += [link for link in LINK.findall(line) if not (path.parent / link).exists()]
                missing += [name for name in OWN_MODULE.findall(line) if not _is_defined(root, name.split("."))]
            yield from (
                (f"{path.relative_to(root)}:{number}", f"names {name}, which does not exist")
                for name in dict.fromkeys(missing)
            )


def _is_defined(root: Path, parts: list[str]) -> bool:
    """Whether ``parts`` are a package, a module, or a module and a name that its code begins a line with."""
    for size in range(len(parts), 0, -1):
        place, rest = root.joinpath(*parts[:size]), parts[size:]
        module = place.with_name(f"{place.name}.py")
        if module.is_file():
            defined = rf"^(?:(?:def|class) )?{rest[0]}\b" if rest else ""
            return re.search(defined, module.read_text(encoding="utf-8"), re.MULTILINE) is not None
        if place.is_dir():
            return not rest
    return False


def check_mirror(root: Path) -> Iterator[Finding]:
    for path in (root / "tests").glob("*/**/test_*.py"):  # a test at the top is about the whole
        source = path.relative_to(root / "tests").with_name(path.name.removeprefix("test_"))
        if source.parts[0] == "gpu":  # what needs one stands apart, and mirrors the source there
            source = source.relative_to("gpu")
        if not any((root / candidate).exists() for candidate in (source, source.with_suffix(""))):
            yield f"{path.relative_to(root)}:1", f"tests {source}, which does not exist: tests mirror the source"


def check_configs(root: Path) -> Iterator[Finding]:
    for path in (root / "configs").rglob("*.yaml"):
        yield from ((f"{path.relative_to(root)}:1", f"_BASE_ {fault}") for fault in _base_faults(path, 0))


def _base_faults(path: Path, depth: int) -> Iterator[str]:
    """What is wrong with the files that ``path``, ``depth`` files below the one that is checked, begins with."""
    match = re.search(r"^_BASE_:\s*\[?([^\]#\n]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    for name in re.findall(r"[^\s,\"']+", match[1]) if match else []:
        base = path.parent / name
        if not base.is_file():
            yield f"leads nowhere: {name}"
        elif depth + 1 > MAX_BASE_DEPTH:
            yield f"is more than {MAX_BASE_DEPTH} files deep"
        else:
            yield from _base_faults(base, depth + 1)


def check_repeats(root: Path) -> Iterator[Finding]:
    """Runs of six lines that stand twice, once they are more than 2 % of the code (imports and blanks aside)."""
    places: dict[tuple[str, ...], list[list[tuple[Path, int]]]] = defaultdict(list)
    total = 0
    for room in ("mhkd", "preprocess", "tools"):
        for path in (root / room).rglob("*.py"):
            numbered = enumerate((line.strip() for line in path.read_text(encoding="utf-8").splitlines()), 1)
            code = [
                (n, line) for n, line in numbered if line and not re.match(r"#|import |from \S+ import |[)\]}]+$", line)
            ]
            total += len(code)
            for start in range(len(code) - WINDOW + 1):
                run = code[start : start + WINDOW]
                places[tuple(line for _, line in run)].append([(path, n) for n, _ in run])
    repeats = [runs for runs in places.values() if len(runs) > 1]
    share = len({place for runs in repeats for run in runs for place in run}) / max(total, 1)
    if share > MAX_REPEATED:
        for first, second, *_ in repeats:
            here, there = (f"{run[0][0].relative_to(root)}:{run[0][1]}" for run in (first, second))
            yield (
                here,
                f"stands again at {there} ({share:.1%} of all lines are repeated, {MAX_REPEATED:.0%} is the most)",
            )


CHECKS = (check_sizes, check_machine, check_names, check_mirror, check_configs, check_repeats)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, "Examples:\n  python -m tools.dev.check_house")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root folder")
    return parser


def main(argv: list[str] | None = None) -> int:
    root = build_parser().parse_args(argv).root
    findings = [finding for check in CHECKS for finding in check(root)]
    for place, reason in findings:
        print(f"{place}: {reason}")
    print(f"house rules: {len(findings) or 'no'} finding{'s' * (len(findings) != 1)} in {len(house_files(root))} files")
    return EXIT_ERROR if findings else EXIT_OK


if __name__ == "__main__":
    run_main(main)

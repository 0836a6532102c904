from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
COUNT = """
import resource, torch
from mhkd.deploy.cpu.malloc import prepare_heap

if {prepare}:
    prepare_heap()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
make = lambda: torch.ones({size} << 20, dtype=torch.uint8)
make()
before = faults()
make()
print(faults() - before)
"""


def faults_of(size_mib: int, *, prepare: bool) -> int:
    """Page faults when a tensor is made again after it was let go, in a process of its own."""
    code = COUNT.format(prepare=prepare, size=size_mib)
    environment = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="what the C library does elsewhere is not known")
def test_a_feature_map_stays_with_the_process():
    assert faults_of(48, prepare=True) < (48 << 20) / 4096 / 3


@pytest.mark.skipif(not PAGES.exists() or "[never]" in PAGES.read_text(), reason="this kernel has no huge pages")
def test_a_large_feature_map_is_on_huge_pages():
    assert faults_of(64, prepare=True) < faults_of(64, prepare=False) / 3

"""Public cohorts: from a downloaded folder to the table of slides that everything else starts from."""

from __future__ import annotations

from preprocess.cohorts import hubmap, hubmap2023, kpis
from preprocess.cohorts.cohort_table import Builder, CohortTable

__all__ = ["BUILDERS", "Builder", "CohortTable"]

BUILDERS: dict[str, Builder] = {
    "hubmap": hubmap.build,
    "hubmap2023": hubmap2023.build,
    "kpis": kpis.build_slides,
    "kpis-patches": kpis.build_patches,
}
"""The table builder of each cohort, by its name on the command line."""

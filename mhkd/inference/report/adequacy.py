"""Whether a biopsy holds enough glomeruli, by the numbers of the Banff classification."""

from __future__ import annotations

from typing import Any

MARGINAL, ADEQUATE = 7, 10

SOURCE = (
    "Banff 97 (Racusen et al., Kidney Int 1999; 55: 713-723, doi 10.1046/j.1523-1755.1999.00299.x), kept by the Banff "
    "reference guide of 2018 (Roufosse et al., Transplantation 2018; 102: 1795-1814, doi 10.1097/TP.0000000000002366)"
)
LIMITS = (
    "Research use only. Counted are the detections of all classes at this score threshold, on this slide; nobody has "
    "confirmed them. The criterion is for a renal allograft biopsy as a whole and asks for arteries too (2 for "
    "adequate, 1 for marginal), which are not looked for here. Several levels of one core on a slide show the same "
    "glomeruli again, and wedges and nephrectomies are not what it was made for."
)
MEANINGS = {
    "adequate": f"{ADEQUATE} glomeruli or more: enough for an adequate sample, if there are two arteries",
    "marginal": f"{MARGINAL} to {ADEQUATE - 1} glomeruli: enough for a marginal sample, if there is an artery",
    "inadequate": f"fewer than {MARGINAL} glomeruli: not enough, whatever else there is",
}


def rate_adequacy(glomeruli: int) -> dict[str, Any]:
    """The verdict on a number of ``glomeruli``, with its thresholds, source, meaning and limits, as plain JSON."""
    verdict = "adequate" if glomeruli >= ADEQUATE else "marginal" if glomeruli >= MARGINAL else "inadequate"
    return {
        "verdict": verdict,
        "meaning": MEANINGS[verdict],
        "glomeruli": glomeruli,
        "thresholds": {"marginal": MARGINAL, "adequate": ADEQUATE},
        "source": SOURCE,
        "limits": LIMITS,
    }

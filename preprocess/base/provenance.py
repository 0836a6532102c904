"""What made an output: versions of the software and the commit of this repository."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
import pandas as pd
import PIL
import shapely


def software() -> dict[str, Any]:
    """The git commit (None outside the project's own repository) and the versions of what the pixels depend on."""
    return {
        "git_commit": git_commit(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "openslide-python": openslide.__version__,
            "pandas": pd.__version__,
            "shapely": shapely.__version__,
            **codecs(),
        },
    }


def codecs() -> dict[str, str]:
    """The versions of what decodes, reduces and encodes pixels: with another one a slide may give other tiles."""
    return {
        "imagecodecs": version("imagecodecs"),
        "simplejpeg": version("simplejpeg"),
        "opencv": cv2.__version__,
        "openslide": openslide.__library_version__,
        "pillow": PIL.__version__,
        "tifffile": version("tifffile"),
    }


def git_commit() -> str | None:
    """The commit that the code runs from; None for an installed package, or without git."""
    project = Path(__file__).resolve().parents[2]
    try:
        top, commit = (
            subprocess.run(
                ["git", "-C", str(project), "rev-parse", what], capture_output=True, text=True, check=True
            ).stdout.strip()
            for what in ("--show-toplevel", "HEAD")
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    # Installed in an environment inside someone else's repository, that one's commit would say nothing.
    return commit if Path(top).resolve() == project else None

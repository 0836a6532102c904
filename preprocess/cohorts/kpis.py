"""KPIs 2024 (MICCAI challenge): mouse kidney, PAS, three models of disease and normal, one class, masks.

Slides: ``{train,validation,test}/.../Task2_WSI_level/GROUP/MOUSE_wsi.tiff`` and ``MOUSE_mask.tiff``. Patches of
2048 px: ``.../Task1_patch_level/.../GROUP/MOUSE/img/NAME_img.jpg`` and ``mask/NAME_mask.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import tifffile

from preprocess.annotations.annotation import scale_to
from preprocess.base.console import progress
from preprocess.base.errors import UserError, named
from preprocess.base.files import atomic_path
from preprocess.base.geometry import Size
from preprocess.base.images import opencv_name
from preprocess.cohorts.cohort_table import (
    DOWNLOAD_AGAIN,
    CohortTable,
    Fractions,
    SlideInfo,
    by_name,
    files_below,
    inspect_slide,
    short_list,
    table_row,
    with_splits,
)
from preprocess.slides.table import SPLITS

GROUPS = {"56nx": "56Nx", "dn": "DN", "nep25": "NEP25", "normal": "normal"}
COARSE, COARSER_BY = "NEP25", 2
"""The slides of this group have half the magnification of the others, as the organisers' evaluation reads them."""
_SPLIT = {"train": "train", "valid": "val", "test": "test"}
_SPLIT_WORD = re.compile(f"(?<![a-z])({'|'.join(_SPLIT)})")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def build_slides(
    folder: Path, extras: Path, *, mpp: float | None = None, fractions: Fractions | None = None
) -> CohortTable:
    """The whole slides below ``folder`` in the challenge's own split; a cohort_table.Builder.

    mpp: of the slides that do not say, at the magnification of 56Nx, DN and normal; those of NEP25 get twice as much.
    """
    slides = files_below(folder, "*_wsi.tiff", "*_wsi.tif")
    masks = by_name(files_below(folder, "*_mask.tiff", "*_mask.tif"))
    return _build(
        folder,
        {slide: masks.pop(slide.stem.removesuffix("_wsi") + "_mask", None) for slide in slides},
        masks.values(),
        fractions,
        _check_mask,
        lambda group: None if mpp is None else mpp * (COARSER_BY if group == COARSE else 1),
        expected="GROUP/MOUSE_wsi.tiff",
    )


def build_patches(
    folder: Path, extras: Path, *, mpp: float | None = None, fractions: Fractions | None = None
) -> CohortTable:
    """The patches below ``folder`` as slides of their own, in the challenge's split; a cohort_table.Builder.

    mpp: of all patches. Their masks are JPEG, where an edge is many greys; they are written to ``extras`` as PNG.
    """
    pictures = [path for path in files_below(folder, "*.*") if path.suffix.lower() in _IMAGE_SUFFIXES]
    images = [path for path in pictures if path.parent.name == "img"]
    masks = {_patch(path): path for path in pictures if path.parent.name == "mask"}

    def converted(mask: Path, slide: SlideInfo) -> Path:
        return _as_png(mask, extras / f"{_patch(mask)[1]}.png", slide.size)

    return _build(
        folder,
        {image: masks.pop(_patch(image), None) for image in images},
        masks.values(),
        fractions,
        converted,
        lambda group: mpp,
        expected="GROUP/MOUSE/img/NAME_img.jpg",
    )


def _build(
    folder: Path,
    masks: Mapping[Path, Path | None],
    orphans: Iterable[Path],
    fractions: Fractions | None,
    prepared: Callable[[Path, SlideInfo], Path],
    mpp_of: Callable[[str], float | None],
    *,
    expected: str,
) -> CohortTable:
    """masks: of each image, None where it has none; orphans: masks of no image."""
    if not masks:
        raise UserError(f"nothing like {expected}", path=folder, remedy="unpack the archives of the challenge here")
    for mask in orphans:
        raise UserError("the image of this mask is missing", path=mask, remedy=DOWNLOAD_AGAIN)
    by_name(masks)
    where = {image: _place(folder, image) for image in masks}
    bare = _without_mask(masks, where)
    rows: list[dict[str, Any]] = []
    for image, mask in progress(masks.items(), total=len(masks), description="looking at slides", unit="slide"):
        if mask is None:
            continue
        split, group, mouse = where[image]
        info = inspect_slide(image, mpp_of(group))
        rows.append(table_row(image, prepared(mask, info), info, mouse, split=split, stain="PAS", group=group))
    if not rows:
        raise UserError(f"none of the {len(masks)} slides has a mask", path=folder, remedy=DOWNLOAD_AGAIN)
    notes = []
    if bare:
        notes.append(f"{len(bare)} slides without a mask are left out: {short_list((i.stem for i in bare), 30)}")
    table = with_splits(rows, fractions, "group") if fractions else pd.DataFrame(rows)
    if absent := [name for name in SPLITS if name not in set(table["split"])]:
        notes.append(f"there is no split {' and no split '.join(absent)} here")
    return CohortTable(table, tuple(notes))


def _patch(path: Path) -> tuple[Path, str]:
    """What a patch and its mask have in common: the mouse's folder, and the name without what is shown."""
    return path.parent.parent, re.sub(r"_(img|mask)$", "", path.stem)


def _place(folder: Path, image: Path) -> tuple[str, str, str]:
    """Split, group and mouse of an image, from the folders it lies in and its name; UserError where they do not say."""
    parts = [folder.absolute().name, *image.relative_to(folder).parts[:-1]]
    splits = {_SPLIT[word] for part in parts for word in _SPLIT_WORD.findall(part.lower())}
    groups = {GROUPS[part.lower()] for part in parts if part.lower() in GROUPS}
    for what, found, known in (("split", splits, "train, validation, test"), ("group", groups, ", ".join(GROUPS))):
        if len(found) != 1:
            raise UserError(
                f"lies in {'no' if not found else 'more than one'} folder that names its {what}",
                path=image,
                remedy=f"keep the folders of the challenge's archives: {known}",
            )
    name = image.stem.removesuffix("_wsi") if image.stem.endswith("_wsi") else image.parent.parent.name
    # 08_368_01, 08_368_02: sections of one mouse.
    number = re.match(r"(\d+)[-_](\d+)(?:[-_]\d+)?$", name)
    return splits.pop(), groups.pop(), f"{number[1]}-{number[2]}" if number else name


def _without_mask(masks: Mapping[Path, Path | None], where: Mapping[Path, tuple[str, str, str]]) -> list[Path]:
    """The test images, if none of them has a mask. UserError for any other image without one."""
    bare = [image for image, mask in masks.items() if mask is None]
    annotated = {where[image][0] for image, mask in masks.items() if mask is not None}
    for image in bare:
        if where[image][0] != "test" or "test" in annotated:
            raise UserError("its mask is missing", path=image, remedy=DOWNLOAD_AGAIN)
    return bare


def _check_mask(mask: Path, slide: SlideInfo) -> Path:
    """``mask``, if it is whole and of the slide's size; pixels are not decoded, which takes gigabytes."""
    try:
        with tifffile.TiffFile(mask) as tiff:
            page = tiff.pages.first
            size = Size(page.imagewidth, page.imagelength)
            end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    except Exception as error:  # tifffile raises whatever a damaged file leads it to
        raise UserError(f"not a readable TIFF: {error}", path=mask, remedy=DOWNLOAD_AGAIN) from error
    if end > mask.stat().st_size:
        raise UserError("the file ends early", path=mask, remedy=DOWNLOAD_AGAIN)
    with named(mask):
        scale_to(slide, size)
    return mask


def _as_png(mask: Path, path: Path, size: Size) -> Path:
    """Write what is white in ``mask``, an image of ``size``, as 1 to ``path``."""
    grey = cv2.imdecode(np.fromfile(mask, dtype=np.uint8), cv2.IMREAD_GRAYSCALE) if mask.stat().st_size else None
    if grey is None:
        raise UserError("not a readable image", path=mask, remedy=DOWNLOAD_AGAIN)
    if grey.shape != (size.height, size.width):
        raise UserError(
            f"{grey.shape[1]} x {grey.shape[0]} px, but its image has {size.width} x {size.height}",
            path=mask,
            remedy=DOWNLOAD_AGAIN,
        )
    # Some masks have 0 and 1, others 0 and 255.
    white = (grey > 0) if grey.max() <= 1 else (grey > 127)
    with atomic_path(path) as temporary:
        cv2.imwrite(opencv_name(temporary), white.astype(np.uint8))
    return path

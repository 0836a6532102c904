from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.readers.ome_tiff import PlainTiffReader
from preprocess.slides.readers.reader import Image
from preprocess.slides.slide import Slide

UM = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}


@pytest.fixture(scope="module")
def image() -> Image:
    noise = np.random.default_rng(0).integers(0, 255, (603, 751, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3).astype(np.uint8)


def write_ome(path: Path, image: Image, **options) -> Path:
    """An OME-TIFF whose levels 4 and 16 are in SubIFDs, as QuPath and Bio-Formats write them."""
    options = {"tile": (128, 128), "photometric": "rgb"} | options
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(image, subifds=2, metadata={"axes": "YXS", **UM}, **options)
        for factor in (4, 16):
            height, width = (side // factor for side in image.shape[:2])
            blocks = image[: height * factor, : width * factor]
            level = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_AREA)
            tiff.write(level, subfiletype=1, **options)
    return path


def read(path: Path, x: int, y: int, width: int, height: int, level: int = 0) -> Image:
    reader = PlainTiffReader(path)
    try:
        return reader.read(level, x, y, Size(width, height))
    finally:
        reader.close()


def test_an_ome_tiff_has_its_levels_and_its_pixel_size(tmp_path, image):
    path = write_ome(tmp_path / "a.ome.tif", image, compression="zlib", predictor=True)
    reader = PlainTiffReader(path)
    assert (reader.size, reader.downsamples) == (Size(751, 603), ((1, 1), (4, 4), (16, 16)))
    part = reader.read(0, 100, 200, Size(300, 250))
    np.testing.assert_array_equal(part, image[200:450, 100:400])
    # 4 x 3 of the 30 tiles: nothing else was decoded.
    assert reader._levels[0]._decoded.cache_info().misses == 4 * 3
    reader.close()
    with Slide.open(path) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.25, "OME-TIFF PhysicalSizeX/Y")
        small = slide.read(Region(0, 0, 640, 480), Size(40, 30))
    assert np.abs(small - image[:480, :640].reshape(30, 16, 40, 16, 3).mean((1, 3))).max() < 2


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 95}, "tile": (128, 128)}, 12),
        ({"photometric": "rgb", "rowsperstrip": 50, "compression": "lzw"}, 0),
        ({"photometric": "rgb"}, 0),  # one strip, uncompressed
    ],
)
def test_tiles_and_strips(tmp_path, image, options, tolerance):
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    part = read(tmp_path / "a.tif", 120, 90, 400, 300)
    assert np.abs(part - image[90:390, 120:520].astype(int)).max() <= tolerance


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 64, "compression": "lzw"},
        {"photometric": "rgb", "planarconfig": "separate", "tile": (64, 64), "compression": "zlib"},
        {
            "photometric": "minisblack",
            "metadata": {"axes": "CYX", "Channel": {"Name": ["Red", "Green", "Blue"]}},
            "ome": True,
        },
    ],
)
def test_colours_in_planes_or_pages(tmp_path, image, options):
    tifffile.imwrite(tmp_path / "a.ome.tif", np.moveaxis(image, -1, 0), **options)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif", 500, 400, 251, 203), image[400:, 500:])


def test_grey_inverted_grey_and_transparency(tmp_path, image):
    grey = image[..., 0]
    for photometric, expected in (("minisblack", grey), ("miniswhite", 255 - grey)):
        tifffile.imwrite(tmp_path / "grey.tif", grey, photometric=photometric, compression="zlib")
        assert (read(tmp_path / "grey.tif", 0, 0, 751, 603) == expected[..., None]).all()
    rgba = np.dstack([image, np.where(np.arange(751) < 300, 255, 0).astype(np.uint8)[None].repeat(603, axis=0)])
    tifffile.imwrite(tmp_path / "rgba.tif", rgba, photometric="rgb", extrasamples=["unassalpha"], compression="zlib")
    part = read(tmp_path / "rgba.tif", 200, 0, 200, 100)
    np.testing.assert_array_equal(part[:, :100], image[:100, 200:300])
    assert (part[:, 100:] == 255).all()


def test_threads_may_share_a_reader(tmp_path, image):
    reader = PlainTiffReader(write_ome(tmp_path / "a.ome.tif", image, compression="zlib"))
    places = [(x, y) for x in range(0, 600, 53) for y in range(0, 500, 47)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda place: reader.read(0, *place, Size(90, 80)), places))
    reader.close()
    for (x, y), part in zip(places, parts, strict=True):
        np.testing.assert_array_equal(part, image[y : y + 80, x : x + 90])


def test_white_outside(tmp_path, image):
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(128, 128))
    part = read(tmp_path / "a.tif", 700, -50, 100, 100)
    np.testing.assert_array_equal(part[50:, :51], image[:50, 700:])
    assert (part[:50] == 255).all()
    assert (part[:, 51:] == 255).all()


@pytest.mark.parametrize(("unit", "factor"), [("nm", 1000), ("mm", 0.001), ("µm", 1), ("cm", 1e-4)])
def test_units_of_the_physical_size(tmp_path, image, unit, factor):
    size = {f"PhysicalSize{axis}": 0.5 * factor for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="rgb", metadata={"axes": "YXS", **size, **units})
    with Slide.open(tmp_path / "a.ome.tif") as slide:
        assert slide.mpp == pytest.approx(0.5)


def test_the_resolution_tags_of_a_striped_tiff(tmp_path, image):
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", resolution=(40000, 20000), resolutionunit=3)
    with Slide.open(tmp_path / "a.tif") as slide:
        assert (slide.mpp_xy, slide.mpp_source) == ((0.25, 0.5), "TIFF resolution tags")


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros((50, 60, 3), np.uint16), {"photometric": "rgb"}, "16-bit values .convert it"),
        (np.zeros((50, 60, 3), np.float32), {"photometric": "rgb"}, "32-bit floats"),
        (np.zeros((50, 60), bool), {"photometric": "minisblack"}, "1-bit values"),
        (np.zeros((50, 60, 4), np.uint8), {"photometric": "separated"}, r"inks \(CMYK\)"),
        (np.zeros((50, 60, 3), np.uint8), {"photometric": "cielab"}, "CIELab"),
        (np.zeros((50, 60, 4), np.uint8), {"photometric": "rgb", "extrasamples": ["unspecified"]}, "4 samples a pixel"),
        (np.zeros((5, 50, 60, 3), np.uint8), {"photometric": "rgb"}, "5 planes"),
        (np.zeros((3, 50, 60), np.uint8), {"photometric": "minisblack", "ome": True}, "3 planes"),
        (np.zeros((4, 50, 60), np.uint8), {"photometric": "minisblack", "imagej": True}, "4 planes"),
        (
            np.zeros((3, 50, 60), np.uint8),
            {
                "photometric": "minisblack",
                "ome": True,
                "metadata": {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "Cy5"]}},
            },
            "CYX: DAPI, FITC, Cy5",
        ),
    ],
)
def test_what_it_does_not_read_is_one_clear_line(tmp_path, array, options, message):
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with pytest.raises(UserError, match=rf"a\.tif: .*{message}"):
        PlainTiffReader(tmp_path / "a.tif")


def test_a_file_that_ends_early_is_refused(tmp_path, image):
    data = write_ome(tmp_path / "a.ome.tif", image, compression="zlib").read_bytes()
    for length in (4, 100, len(data) // 3, len(data) - 200):
        (tmp_path / "cut.ome.tif").write_bytes(data[:length])
        with pytest.raises(UserError, match=r"cut\.ome\.tif: .*(early|not readable)"):
            PlainTiffReader(tmp_path / "cut.ome.tif")


def test_damaged_pixels_are_an_error_when_read(tmp_path, image):
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", compression="zlib", rowsperstrip=64)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 5000] = bytes(5000)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.tif: pixels not readable"):
        read(tmp_path / "a.tif", 0, 0, 751, 603)


def write_images(path: Path, *images: tuple[str, Image, float | None]) -> Path:
    """An OME-TIFF of several images, each with its name, pixels and um/px."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name, pixels, mpp in images:
            size = {} if mpp is None else {f"PhysicalSize{axis}": mpp for axis in "XY"}
            metadata = {"axes": "YXS" if pixels.ndim == 3 else "YX", "Name": name, **size}
            photometric = "rgb" if pixels.ndim == 3 else "minisblack"
            tiff.write(pixels, photometric=photometric, tile=(128, 128), compression="zlib", metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("others", "mpp"),
    [
        ([("macro image", (900, 900, 3), 8.0)], 0.5),
        ([("label image", (900, 900, 3), None)], 0.5),
        ([("a grey one", (900, 900), 0.5)], 0.5),
        ([("a coarse one", (900, 900, 3), 2.0)], 0.5),
        ([("unsaid", (900, 900, 3), None)], 0.5),
        ([("another piece", (500, 500, 3), 0.5), ("a mask", (400, 400), 0.25)], 0.5),
        ([("without um", (400, 400, 3), None)], None),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_of_several_images_pixels_and_their_size_are_those_of_the_slide(tmp_path, image, others, mpp, first, capsys):
    rest = [(name, np.zeros(shape, np.uint8), size) for name, shape, size in others]
    slide = [("the slide", image, mpp)]
    path = write_images(tmp_path / f"{others[0][0]} {first}.ome.tif", *(slide + rest if first else rest + slide))
    with Slide.open(path, None if mpp else 0.5) as opened:
        assert (opened.mpp, opened.size) == (0.5, Size(751, 603))
        np.testing.assert_array_equal(opened.read(Region(100, 100, 50, 40), Size(50, 40)), image[100:140, 100:150])
    said = capsys.readouterr().err
    assert all(f"{name} (" in said for name, _, _ in (*slide, *others))


def test_a_macro_is_no_slide(tmp_path, image):
    path = write_images(tmp_path / "a.ome.tif", ("Macro", image, 8.0), ("label image", image, 8.0))
    with pytest.raises(UserError, match=r"a\.ome\.tif: a TIFF of an image called 'Macro'"):
        Slide.open(path)


def test_what_lies_beside_a_large_scan_that_is_not_read_is_not_the_slide(tmp_path, image):
    scan = np.zeros((3, 1300, 1600), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        tiff.write(scan, photometric="minisblack", metadata={"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
        tiff.write(image, photometric="rgb", metadata={"axes": "YXS"})
    with pytest.raises(UserError, match="3 planes"):
        Slide.open(tmp_path / "a.ome.tif", 0.5)


def write_pages(path, pages, **options):
    with tifffile.TiffWriter(path) as tiff:
        for number, page in enumerate(pages):
            tiff.write(page, photometric="rgb", tile=(64, 64), metadata=None, **options, subfiletype=int(number > 0))
    return path


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "webp", "jpeg2000"])
def test_a_tiled_tiff_of_any_compression_has_its_levels(tmp_path, image, compression):
    args = {} if compression not in ("webp", "jpeg2000") else {"compressionargs": {"level": 100}}
    path = write_pages(tmp_path / "a.tif", [image, image[::2, ::2]], compression=compression, **args)
    with Slide.open(path, 0.5) as slide:
        pixels = slide.read(Region(100, 50, 90, 70), Size(90, 70))
        assert len(slide._reader.downsamples) == 2
    assert np.abs(pixels.astype(int) - image[50:120, 100:190]).max() < 8


def test_damage_inside_a_tiled_tiff_of_checked_compression_is_seen(tmp_path, image):
    path = write_pages(tmp_path / "a.tif", [image], compression="zlib")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    with Slide.open(path, 0.5) as slide, pytest.raises(UserError, match=r"a\.tif: pixels not readable"):
        slide.read(slide.region, slide.size)


def test_the_pages_of_a_tiled_tiff_are_a_stack_or_the_largest_is_the_slide(tmp_path, image, capsys):
    options = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
    with tifffile.TiffWriter(tmp_path / "stack.tif") as tiff:
        for _ in range(3):
            tiff.write(image, **options)
    with pytest.raises(UserError, match=r"stack\.tif: a TIFF of 3 planes"):
        Slide.open(tmp_path / "stack.tif", 0.5)
    with tifffile.TiffWriter(tmp_path / "thumbnail.tif") as tiff:
        tiff.write(image[:100, :120], subfiletype=1, **options)
        tiff.write(image, **options)
    with Slide.open(tmp_path / "thumbnail.tif", 0.5) as slide:
        assert slide.size == Size(751, 603)
    assert "image 1 (751 x 603 px) is read, and image 0 (120 x 100 px) left out" in capsys.readouterr().err


def test_an_unknown_compression_is_refused(tmp_path, image):
    path = write_pages(tmp_path / "a.tif", [image])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["Compression"].overwrite(52479)
    with pytest.raises(UserError, match="the compression 52479, which is not known"):
        Slide.open(path, 0.5)


@pytest.mark.parametrize(
    ("name", "is_slide"),
    [
        ("label-free 3", True),
        ("Macrophages CD68", True),
        ("Overview of the cortex", True),
        ("label image", False),
        ("slide_macro", False),
        ("a.svs [macro image]", False),
        ("Thumbnail 1", False),
    ],
)
def test_a_macro_is_known_by_the_end_of_its_name(tmp_path, image, name, is_slide):
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="rgb", metadata={"Name": name, **UM})
    with nullcontext() if is_slide else pytest.raises(UserError, match=re.escape(f"called {name!r}")):
        Slide.open(tmp_path / "a.ome.tif").close()


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        *((0.5, unit) for unit in ("µm", "μm", "um", "micron", "microns")),
        *((500, "nm"), (5000, "Å"), (0.0005, "mm"), (5e-7, "m"), (0.5 / 25400, "in"), ("0,5", "µm")),
    ],
)
def test_a_length_in_any_unit(tmp_path, image, value, unit):
    sizes = {f"PhysicalSize{axis}": value for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    tifffile.imwrite(tmp_path / "a.ome.tif", image, photometric="rgb", metadata=sizes)
    with Slide.open(tmp_path / "a.ome.tif") as slide:
        assert slide.mpp == pytest.approx(0.5)

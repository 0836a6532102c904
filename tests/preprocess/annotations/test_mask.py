from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ImagejRoi

from preprocess.annotations.annotation import collect
from preprocess.annotations.mask import parse
from preprocess.base.errors import UserError


def png(array, mode=None):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(buffer, "PNG")
    return buffer.getvalue()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def tiff_pyramid(mask):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for level in (mask, mask[::2, ::2], mask[::4, ::4]):
            writer.write(level, metadata=None, subfiletype=int(level is not mask))
    return buffer.getvalue()


@pytest.fixture
def objects():
    """Two rectangles, one of them with a hole of one pixel, on 400 x 500."""
    mask = np.zeros((400, 500), np.uint8)
    mask[10:20, 30:50] = 1
    mask[15, 40] = 0
    mask[300:400, 400:500] = 1
    return mask


RECTANGLES = [("Unclassified", (60, 20, 100, 40), 796), ("Unclassified", (800, 600, 1000, 800), 40_000)]


@pytest.mark.parametrize(
    "write",
    [
        lambda m: png(m * 255),
        lambda m: png(m.astype(bool)),
        lambda m: png(np.dstack([m * 200] * 3)),
        lambda m: png(np.dstack([m * 200] * 3 + [np.full_like(m, 255)])),
        lambda m: png(m * 255, "P"),
        lambda m: tiff(m),
        lambda m: tiff(m, tile=(64, 64), compression="zlib"),
        lambda m: tiff(m.astype(np.float32)),
        lambda m: tiff(m, byteorder=">"),
        lambda m: png(np.dstack([np.full_like(m, 255)] * 3 + [m * 255])),
        lambda m: png(np.dstack([m * 0, m * 0 + 9, m * 0, m * 200])),
        lambda m: png(np.dstack([m * 0 + 255, m * 255])),
        lambda m: tiff(m * 255, photometric="miniswhite"),
        lambda m: tiff(255 - m * 255, photometric="miniswhite"),
        lambda m: tiff_pyramid(m),
    ],
    ids=[
        *("8 bits", "1 bit", "RGB", "RGBA", "palette", "TIFF", "tiled", "float", "big endian", "white on nothing"),
        *("green on nothing", "grey on nothing", "MINISWHITE as ImageJ's", "MINISWHITE", "pyramid"),
    ],
)
def test_objects_of_a_mask_of_half_the_size(read, frame, summary, objects, write):
    assert summary(read(write(objects), frame)) == RECTANGLES


def test_values_of_8_bits_are_classes(read, summary, objects):
    objects[300:] *= 3
    assert [label for label, _, _ in summary(read(png(objects)))] == ["1", "3"]
    objects[100:110, 100:110] = 3
    assert [label for label, _, _ in summary(read(png(objects)))] == ["1", "3", "3"]


def test_values_of_16_bits_are_objects_even_where_they_touch(read, summary):
    mask = np.zeros((40, 50), np.uint16)
    mask[10:20, 10:20] = 300
    mask[10:20, 20:30] = 301
    for content in (png(mask), tiff(mask), tiff(mask.astype(np.int32))):
        assert summary(read(content)) == [
            ("Unclassified", (10, 10, 20, 20), 100),
            ("Unclassified", (20, 10, 30, 20), 100),
        ]


def test_pixels_that_touch_at_corners_are_two_objects(read, summary):
    mask = np.zeros((10, 10), np.uint8)
    mask[2:4, 2:4] = mask[4:6, 4:6] = 1
    assert [bounds for _, bounds, _ in summary(read(png(mask)))] == [(2, 2, 4, 4), (4, 4, 6, 6)]


def test_an_empty_mask_is_a_slide_without_objects(read):
    assert len(read(png(np.zeros((40, 50), np.uint8)))) == 0


def giant_png(side, colour_type):
    """One of side x side px in a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(np.zeros((30, 50), np.uint8)), "made on an image of 50 x 30"),
        (png(np.zeros((400, 500), np.uint8))[:-40], "damaged mask, item 1"),
        (tiff(np.zeros((400, 500), np.uint8))[:300], "damaged mask, item 1"),
        (png(np.indices((400, 500)).sum(0).astype(np.uint8)), "its values are blended along the edges"),
        (png(np.random.default_rng(0).integers(0, 255, (400, 500, 3), np.uint8)), "a colour image is no mask"),
        (tiff(np.full((400, 500), 0.5, np.float32)), "no whole numbers"),
        (
            tiff(np.zeros((400, 500, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
            "a colour image is no mask",
        ),
        (tiff(np.zeros((2, 400, 500), np.uint8), photometric="minisblack"), "it has 1 more pages of about its size"),
        (tiff(np.zeros((3, 400, 500), np.uint8), imagej=True), "it has 2 more pages of about its size"),
        (tiff(np.zeros((4, 400, 500), np.uint8), photometric="minisblack", metadata=None), "it has 3 more pages"),
        (
            tiff(np.zeros((400, 500, 2), np.uint8), photometric="minisblack", planarconfig="contig"),
            "a colour image is no mask",
        ),
        (giant_png(100_000, 0), "too large"),
        (giant_png(40_000, 2), "a colour image is no mask"),
    ],
)
def test_what_is_no_mask(read, frame, content, message):
    with pytest.raises(UserError, match=message):
        read(content, frame)


def test_masks_do_not_depend_on_a_slide():
    mask = np.zeros((4, 5), np.uint8)
    mask[1, 1:4] = 9
    assert collect(parse(png(mask), None))[0].polygon.bounds == (1, 1, 4, 2)


def numbered(count):
    mask = np.zeros((400, 500), np.uint8)
    for number in range(count):
        mask[10 + 40 * (number // 10) :, 10 + 40 * (number % 10) :][:20, :20] = number + 1
    return mask


def test_objects_numbered_in_8_bits(read):
    assert {a.label for a in read(png(numbered(40)))} == {"Unclassified"}
    assert len(read(png(numbered(40)))) == 40
    assert [a.label for a in read(png(numbered(3)))] == ["1", "2", "3"]
    twice = numbered(9)
    twice[200:220, 10:30] = 4
    assert len({a.label for a in read(png(twice))}) == 9


def turned_png(mask, kind="PNG"):
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(mask).save(stream := io.BytesIO(), kind, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize(
    "write", [turned_png, lambda m: turned_png(m, "JPEG"), lambda m: tiff(m, extratags=[(274, "H", 1, 6, True)])]
)
def test_a_mask_that_is_shown_turned_is_refused(read, write):
    with pytest.raises(UserError, match="Orientation"):
        read(write(numbered(1) * 255))


def test_a_mask_that_is_transparent_throughout_is_not_empty(read):
    mask = numbered(1) * 255
    with pytest.raises(UserError, match="all of it is transparent"):
        read(png(np.dstack([mask, mask, mask, 0 * mask])))


def test_dark_values_saved_as_jpeg(read, objects):
    Image.fromarray(numbered(1)).save(stream := io.BytesIO(), "JPEG", quality=95)
    assert [a.polygon.bounds for a in read(stream.getvalue())] == [(10, 10, 30, 30)]


def test_a_further_page_of_about_the_same_size(read):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for mask in (numbered(1), numbered(2)[:-1, :-1]):
            writer.write(mask, metadata=None)
    with pytest.raises(UserError, match="1 more pages"):
        read(stream.getvalue())


def test_regions_of_imagej_in_a_tiff_are_no_slide_without_objects(read):
    region = ImagejRoi.frompoints(np.array([[10, 10], [30, 10], [30, 30]])).tobytes()
    with pytest.raises(UserError, match="region of ImageJ in a TIFF 2"):
        read(tiff(numbered(0), imagej=True, metadata={"Overlays": [region] * 2}))
    assert len(read(tiff(numbered(2), imagej=True, metadata={"ROI": region}))) == 2

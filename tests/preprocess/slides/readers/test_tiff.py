from __future__ import annotations

import os
import threading

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.base.errors import UserError
from preprocess.base.geometry import Size
from preprocess.slides.readers import jpeg_level
from preprocess.slides.readers.jpeg import decode_jpeg
from preprocess.slides.readers.openslide import OpenSlideReader
from preprocess.slides.readers.tiff import READER_VARIABLE, JpegTiffReader, open_wsi

FLAVOURS = {  # tile (height, width), chroma, stored as, JPEG tables shared, a size that is whole at every level
    "420": ((64, 64), "420", "YCBCR", False, (416, 336)),
    "422, edge tiles": ((48, 80), "422", "YCBCR", False, (400, 304)),
    "444, tables": ((64, 64), "444", "YCBCR", True, (416, 336)),
    "420, tables, odd size": ((64, 64), "420", "YCBCR", True, (411, 333)),
    "RGB, tables, odd size": ((32, 48), "444", "RGB", True, (397, 301)),
}
LEVELS = (1, 4, 16)


def split_jpeg(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG as its tables (DQT and DHT) and the rest, each a stream of its own."""
    tables, rest, at = b"\xff\xd8", b"\xff\xd8", 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in (0xDB, 0xC4):
            tables += data[at:end]
        else:
            rest += data[at:end]
        at = end
    return tables + b"\xff\xd9", rest + data[at:]


def write_pyramid(path, flavour, levels=LEVELS, change=lambda tiles: tiles, **options):
    """A slide of the flavour, full of detail and colour; ``change`` may spoil its level-0 tiles."""
    tile, chroma, stored, shared, wh = flavour
    y, x = np.mgrid[: wh[1], : wh[0]]
    noise = np.random.default_rng(0).integers(0, 60, (wh[1], wh[0], 3))
    image = np.stack([x * 7 % 256, y * 5 % 256, (x + y) * 3 % 256], axis=-1) // 2 + noise
    description = f"Aperio Image Library v12\r\n{wh[0]}x{wh[1]} JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as tiff:
        for factor in levels:
            pixels = image[factor // 2 :: factor, factor // 2 :: factor].astype(np.uint8)
            shape = tuple(-(-side // factor) for side in image.shape[:2])
            pixels = np.pad(pixels, ((0, shape[0] - pixels.shape[0]), (0, shape[1] - pixels.shape[1]), (0, 0)), "edge")
            tiles = [split_jpeg(data) if shared else (b"", data) for data in encode(pixels, tile, chroma, stored)]
            tiff.write(
                (data for data in (change if factor == 1 else list)([data for _, data in tiles])),
                shape=pixels.shape,
                dtype=np.uint8,
                tile=tile,
                compression="jpeg",
                photometric=stored.lower(),
                subsampling={"444": (1, 1), "422": (2, 1), "420": (2, 2)}[chroma] if stored == "YCBCR" else None,
                extratags=[(347, 7, len(tiles[0][0]), tiles[0][0], True)] if shared else [],
                **{"subfiletype": int(factor > 1), "description": description, "metadata": None, **options},
            )
    return path


def encode(pixels, tile, chroma, stored):
    for top in range(0, pixels.shape[0], tile[0]):
        for left in range(0, pixels.shape[1], tile[1]):
            part = pixels[top : top + tile[0], left : left + tile[1]]
            part = np.pad(part, ((0, tile[0] - part.shape[0]), (0, tile[1] - part.shape[1]), (0, 0)), "edge")
            yield imagecodecs.jpeg8_encode(part, 90, outcolorspace=stored, subsampling=chroma)


@pytest.fixture(scope="module", params=FLAVOURS, ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def readers(request, tmp_path_factory):
    path = write_pyramid(tmp_path_factory.mktemp("flavour") / "slide.svs", FLAVOURS[request.param])
    direct, reference = open_wsi(path, "tiff"), open_wsi(path, "openslide")
    assert (type(direct), type(reference)) == (JpegTiffReader, OpenSlideReader)
    yield direct, reference
    direct.close()
    reference.close()


def test_it_says_what_openslide_says(readers):
    direct, reference = readers
    assert (direct.size, direct.downsamples) == (reference.size, reference.downsamples)
    assert direct.properties == reference.properties
    assert direct.properties["openslide.mpp-x"] == "0.5"


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2))
def test_every_pixel_is_that_of_openslide(readers, data, level):
    direct, reference = readers
    whole = reference.level_sizes[level]
    # Where a level is no whole fraction, OpenSlide interpolates between its pixels, except from the origin on.
    least, most = (-40, max(whole.width, whole.height) + 20) if reference.is_exact(level) else (0, 0)
    x, y = data.draw(st.integers(least, most)), data.draw(st.integers(least, most))
    size = Size(data.draw(st.integers(1, 250)), data.draw(st.integers(1, 250)))
    np.testing.assert_array_equal(direct.read(level, x, y, size), reference.read(level, x, y, size))


def test_the_levels_that_openslide_interpolates_are_the_stored_pixels(tmp_path):
    path = write_pyramid(tmp_path / "odd.svs", FLAVOURS["420, tables, odd size"])
    with tifffile.TiffFile(path) as tiff:
        stored = tiff.pages[1].asarray()
    reader = open_wsi(path, "tiff")
    np.testing.assert_array_equal(reader.read(1, 31, 17, Size(60, 50)), stored[17:67, 31:91])
    reader.close()


def test_the_same_from_several_threads(tmp_path):
    path = write_pyramid(tmp_path / "slide.svs", FLAVOURS["420"])
    reader, expected = open_wsi(path, "tiff"), open_wsi(path, "openslide").read(0, 0, 0, Size(416, 336))
    results = []
    threads = [threading.Thread(target=lambda: results.append(reader.read(0, 0, 0, Size(416, 336)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all((result == expected).all() for result in results)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_large_read_is_shared_among_threads(damaged, tmp_path, monkeypatch):
    spoilt = spoil(lambda data: bytes(len(data) // 2)) if damaged else list
    path = write_pyramid(tmp_path / "slide.svs", ((16, 16), "420", "YCBCR", False, (416, 336)), change=spoilt)
    reader, decoders = open_wsi(path), set()
    monkeypatch.setattr(
        jpeg_level, "decode_jpeg", lambda *a, **k: decoders.add(threading.get_ident()) or decode_jpeg(*a, **k)
    )
    if damaged:
        with pytest.raises(UserError, match=r"slide\.svs: pixels not readable"):
            reader.read(0, 0, 0, Size(416, 336))
    else:
        found = reader.read(0, 0, 0, Size(416, 336))
        np.testing.assert_array_equal(found, open_wsi(path, "openslide").read(0, 0, 0, Size(416, 336)))
    assert threading.get_ident() not in decoders
    reader.close()


def test_tiles_are_decoded_once_and_memory_is_bounded(tmp_path, monkeypatch):
    path = write_pyramid(tmp_path / "slide.svs", FLAVOURS["420"])
    decoded = []
    monkeypatch.setattr(jpeg_level, "decode_jpeg", lambda *a, **k: decoded.append(1) or decode_jpeg(*a, **k))
    reader = open_wsi(path, "tiff")
    decoded.clear()
    for _ in range(2):
        for x in range(0, 416 - 127, 32):
            reader.read(0, x, 0, Size(128, 64))
    assert len(decoded) == 7  # 416 / 64 tiles, rounded up
    reader.close()
    monkeypatch.setattr("preprocess.slides.readers.tiff._CACHE_BYTES", 3 * 64 * 64 * 3)
    reader = open_wsi(path, "tiff")
    decoded.clear()
    for _ in range(2):
        reader.read(0, 0, 0, Size(416, 64))
    assert len(decoded) == 14
    reader.close()


def spoil(change, at=9):
    return lambda tiles: [change(data) if index == at else data for index, data in enumerate(tiles)]


UNFIT = {
    "missing tiles": (lambda path: write_pyramid(path, FLAVOURS["420"], change=spoil(lambda _: b"")), "missing"),
    "another compression": (
        lambda path: tifffile.imwrite(
            path, np.zeros((400, 400, 3), np.uint8), tile=(64, 64), compression="deflate", photometric="rgb"
        ),
        "not 8-bit JPEG",
    ),
    "JPEG 2000": (
        lambda path: tifffile.imwrite(
            path,
            np.zeros((400, 400, 3), np.uint8),
            tile=(64, 64),
            compression="aperio_jp2000_rgb",
            photometric="rgb",
            metadata=None,
            description="Aperio Image Library v12\r\n400x400|MPP = 0.5",
        ),
        "not 8-bit JPEG",
    ),
    "two images of one size": (lambda path: write_pyramid(path, FLAVOURS["420"], levels=(1, 1)), "2 tiled images"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_no_plain_grid_of_jpeg_tiles_goes_to_openslide(tmp_path, name):
    write, reason = UNFIT[name]
    path = tmp_path / "slide.svs"
    write(path)
    reader = open_wsi(path, "auto")
    assert isinstance(reader, OpenSlideReader)
    reader.close()
    with pytest.raises(UserError, match=rf"slide\.svs: not readable tile by tile: .*{reason}.*use the reader auto"):
        open_wsi(path, "tiff")


def test_other_pixels_than_openslides_are_refused(tmp_path, monkeypatch):
    path = write_pyramid(tmp_path / "slide.svs", FLAVOURS["444, tables"])

    def off_by_one(*args, **kwargs):
        pixels = decode_jpeg(*args, **kwargs)
        pixels[5, 5, 1] ^= 1
        return pixels

    monkeypatch.setattr(jpeg_level, "decode_jpeg", off_by_one)
    assert isinstance(open_wsi(path), OpenSlideReader)
    with pytest.raises(UserError, match="level 0 differs"):
        open_wsi(path, "tiff")


DAMAGE = {
    "nothing": lambda data: bytes(len(data) // 2),
    "its beginning": lambda data: data[: len(data) // 2],
    "zeros in the middle": lambda data: data[: len(data) // 2] + bytes(400) + data[len(data) // 2 + 400 :],
    "a gap": lambda data: data[: len(data) // 2] + data[len(data) // 2 + 300 :],
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("index", [9, 0])  # the first is one of those that are compared with OpenSlide
def test_a_damaged_tile_is_an_error_where_libjpeg_goes_on_with_grey(tmp_path, what, index):
    path = write_pyramid(tmp_path / "slide.svs", FLAVOURS["420"], change=spoil(DAMAGE[what], index))
    reader = open_wsi(path)
    assert isinstance(reader, JpegTiffReader)
    reader.read(0, 64, 0, Size(64, 64))
    row, column = divmod(index, 7)
    with pytest.raises(UserError, match=r"slide\.svs: pixels not readable"):
        reader.read(0, 64 * column, 64 * row, Size(20, 20))
    reader.close()


def test_an_end_that_a_writer_left_out_is_no_damage(tmp_path):
    path = write_pyramid(
        tmp_path / "slide.svs", FLAVOURS["420"], change=spoil(lambda data: data.removesuffix(b"\xff\xd9"))
    )
    whole = write_pyramid(tmp_path / "whole.svs", FLAVOURS["420"])
    readers = [open_wsi(one) for one in (path, whole)]
    one, other = (reader.read(0, 128, 64, Size(64, 64)) for reader in readers)
    np.testing.assert_array_equal(one, other)
    for reader in readers:
        reader.close()


def test_a_jpeg_of_another_size_takes_no_memory(tmp_path):
    huge = imagecodecs.jpeg8_encode(np.zeros((8, 8, 3), np.uint8), 50).replace(b"\x00\x08\x00\x08", b"\xff\x00\xff\x00")
    path = write_pyramid(tmp_path / "slide.svs", FLAVOURS["420"], change=spoil(lambda _: huge))
    reader = open_wsi(path, "auto")
    with pytest.raises(UserError, match="pixels not readable"):
        reader.read(0, 128, 64, Size(64, 64))
    reader.close()


def test_the_reader_can_be_chosen(tmp_path, monkeypatch):
    path = write_pyramid(tmp_path / "slide.svs", FLAVOURS["420"])
    assert isinstance(open_wsi(path), JpegTiffReader)
    monkeypatch.setenv(READER_VARIABLE, "openslide")
    assert isinstance(open_wsi(path), OpenSlideReader)
    assert isinstance(open_wsi(path, "tiff"), JpegTiffReader)
    with pytest.raises(UserError, match="no reader 'vips'"):
        open_wsi(path, "vips")


def test_a_changed_file_is_looked_at_again(tmp_path):
    path = write_pyramid(tmp_path / "slide.svs", FLAVOURS["420"])
    assert isinstance(open_wsi(path), JpegTiffReader)
    UNFIT["another compression"][0](path)
    os.utime(path, ns=(1, 1))
    assert isinstance(open_wsi(path), OpenSlideReader)


def test_closed_is_closed(tmp_path):
    reader = open_wsi(write_pyramid(tmp_path / "slide.svs", FLAVOURS["420"]))
    reader.read(0, 0, 0, Size(10, 10))
    reader.close()
    with pytest.raises((OSError, ValueError, openslide.OpenSlideError)):
        reader.read(0, 0, 0, Size(10, 10))

"""Damaged annotations and slides: seeds of every format, ways to damage them, and a safe place to read them in."""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import math
import os
import random
import re
import resource
import select
import signal
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from roifile import ROI_TYPE

from preprocess.annotations import read_annotations
from preprocess.base.errors import UserError
from preprocess.base.geometry import Region, Size
from preprocess.slides.slide import Slide
from preprocess.synthetic.svs import write_plain_tiff, write_svs
from tests.fuzzing_folders import check_folder
from tests.preprocess.annotations import (
    test_asap,
    test_coco,
    test_cvat,
    test_dsa,
    test_geojson,
    test_halo,
    test_hubmap_jsonl,
    test_imagej,
    test_imagescope,
    test_labelme,
    test_mask,
    test_ndpa,
    test_pascal_voc,
    test_via,
)
from tests.preprocess.annotations.conftest import Frame

OUTCOMES = ("read", "refused", "traceback", "crash", "hang", "memory")
"""What may become of a case; the first two are right."""

GIB = 1 << 30
FRAME = Frame(properties=test_ndpa.HEADER)
"""The slide that the seeds of annotations are of."""
Check = Callable[[Path], None]


def annotation_seeds() -> dict[str, bytes]:
    """A small sound file of every format, for a slide of 1000 x 800 px that is called ``slide``."""
    mask = np.zeros((400, 500), np.uint8)
    mask[10:20, 30:50] = mask[300:380, 400:500] = 1
    square, hole = test_geojson.SQUARE, test_geojson.HOLE
    features = [
        test_geojson.feature("Polygon", [square, hole], classification={"name": "Glomerulus", "color": [0, 160, 0]}),
        test_geojson.feature("MultiPolygon", [[test_geojson.BOW_TIE], [hole]]),
    ]
    voc = test_pascal_voc
    seeds: dict[str, object] = {
        "geojson": {"type": "FeatureCollection", "features": features},
        "geojson-gz": gzip.compress(json.dumps(features).encode(), mtime=0),
        "hubmap-jsonl": test_hubmap_jsonl.FILE,
        "hubmap-rle": "id,encoding\nother,1 20\nslide,6 2 810 300 1620 200 799999 2\n",
        "imagescope": test_imagescope.document(
            test_imagescope.layer(
                test_imagescope.region(test_imagescope.SQUARE),
                test_imagescope.region(test_imagescope.HOLE, negative=1),
                test_imagescope.region([(20, 30), (90, 60)], kind=2),
            )
        ),
        "asap": test_asap.document(test_asap.annotation(test_asap.SQUARE)),
        "halo": test_halo.document(
            a=[test_halo.region(test_halo.SQUARE), test_halo.region([(1, 2), (30, 40)], "Ellipse")]
        ),
        "pascal-voc": voc.document(voc.found((10, 20, 30, 50)), voc.found((0, 0, 5, 5), difficult=1)),
        "dsa": test_dsa.document(test_dsa.POLYLINE, test_dsa.RECTANGLE, test_dsa.POINT),
        "labelme": test_labelme.document(
            test_labelme.shape(test_labelme.SQUARE),
            test_labelme.shape([[50, 50], [53, 54]], "circle"),
            test_labelme.shape([[1, 2], [30, 22]], "mask", mask=test_labelme.png(mask[:30, :50])),
        ),
        "coco": test_coco.document(
            test_coco.drawn([test_coco.SQUARE]),
            test_coco.drawn(test_coco.rle()),
            test_coco.drawn({"size": [400, 500], "counts": "jW1h00O2O1N101O0O1"}),
            test_coco.drawn(),
        ),
        "imagej-roi": test_imagej.polygon().tobytes(),
        "imagej-zip": test_imagej.roi_set(
            test_imagej.polygon(), test_imagej.composite(), test_imagej.bounded(ROI_TYPE.OVAL)
        ),
        "cvat": test_cvat.document(
            test_cvat.image(test_cvat.POLYGON, '<box label="a" xtl="10" ytl="20" xbr="30" ybr="40" rotation="30" />')
        ),
        "ndpa": test_ndpa.document(test_ndpa.freehand(test_ndpa.SQUARE)),
        "via": test_via.project(*test_via.CLASSED),
        "via-csv": test_via.table(("slide.png", test_via.SQUARE, {}), ("slide.png", test_via.CIRCLE, {"a": "b"})),
        "geojson-zip": _zip({"objects.geojson": json.dumps(features).encode()}),
        "mask-png": test_mask.png(mask),
        "mask-tiff": test_mask.tiff(mask.astype(np.uint16), tile=(64, 64), compression="zlib"),
    }
    return {name: seed if isinstance(seed, bytes) else _text(seed).encode() for name, seed in seeds.items()}


def slide_seeds(folder: Path) -> dict[str, bytes]:
    """Small slides and plain images; ``folder`` is where they are written first."""
    image = np.random.default_rng(0).integers(0, 255, (500, 600, 3), np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 3)
    paths = [write_svs(folder / "a.svs", image), write_plain_tiff(folder / "pyramid.tif", image), folder / "a.ome.tif"]
    tifffile.imwrite(paths[-1], image, photometric="rgb", tile=(64, 64), ome=True)
    for suffix in (".png", ".jpg", ".bmp"):
        paths.append(folder / f"image{suffix}")
        cv2.imwrite(str(paths[-1]), image[:200, :300])
    return {path.name.partition(".")[2]: path.read_bytes() for path in paths}


def check_annotations(path: Path) -> None:
    """AssertionError unless the file is refused or gives valid finite polygons with an area."""
    for annotation in read_annotations(path, FRAME):
        polygon = annotation.polygon
        assert polygon.geom_type in ("Polygon", "MultiPolygon")
        assert polygon.is_valid
        assert 0 < polygon.area < math.inf
        assert all(map(math.isfinite, polygon.bounds))
        assert isinstance(annotation.label, str)


def check_slide(path: Path) -> None:
    """AssertionError unless the slide is refused or every region of it has its size."""
    with Slide.open(path, 0.5) as slide:
        assert slide.thumbnail(64).shape[2] == 3
        for place in (
            (0, 0, 256, 256),
            (-20, -30, 300, 200),
            (slide.size.width - 90, slide.size.height - 90, 180, 180),
        ):
            assert slide.read(Region(*place), Size(64, 50)).shape == (50, 64, 3)


def mutate(seed: bytes, rng: random.Random) -> bytes:
    """``seed`` damaged once to three times; of packed files mostly what is in them, so that it gets past checksums."""
    inside = rng.random() < 0.7
    if inside and seed.startswith(b"\x1f\x8b"):
        return gzip.compress(mutate(gzip.decompress(seed), rng), mtime=0)
    if inside and seed.startswith(b"PK"):
        return _zip({name: mutate(data, rng) if rng.random() < 0.5 else data for name, data in _unzip(seed).items()})
    damaged = seed
    for _ in range(rng.choice((1, 1, 2, 3))):
        ways = _WAYS
        if damaged[:1] in (b"<", b"{", b"[", b"i") and rng.random() < 0.75:
            ways = _XML_WAYS if damaged.startswith(b"<") else _JSON_WAYS
        damaged = rng.choice(ways)(damaged, rng)
    return _mend_png(damaged) if inside and damaged.startswith(b"\x89PNG") else damaged


def read_apart(check: Check, path: Path, seconds: float, memory: int = 4 * GIB) -> tuple[str, str]:
    """The outcome of ``check(path)`` in a process of its own, and what went wrong, in one line.

    It may take ``seconds`` of the processor (on a busy machine six times as long), and ``memory`` bytes more
    than this process; a quarter of that in use counts as a blow-up already. This process must be able to fork.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        try:
            os.write(tell, "\n".join(_limited(check, path, seconds, memory))[:4000].encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(tell)
    answer, end = b"", time.monotonic() + 6 * seconds
    while select.select([told], [], [], max(0.0, end - time.monotonic()))[0]:
        block = os.read(told, 4096)
        answer += block
        if not block:
            break
    else:
        os.kill(child, signal.SIGKILL)
    os.close(told)
    status = os.waitpid(child, 0)[1]
    if status in (signal.SIGKILL, signal.SIGXCPU) and not answer:
        return "hang", f"after {seconds:g} s"
    outcome, _, reason = answer.decode(errors="replace").partition("\n")
    return (outcome, reason) if outcome else ("crash", f"status {status}")


def _limited(check: Check, path: Path, seconds: float, memory: int) -> tuple[str, str]:
    faulthandler.disable()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + memory, in_use + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, reason = "read", ""
    try:
        check(path)
    except UserError as error:
        outcome, reason = "refused", str(error)
    except MemoryError as error:
        outcome, reason = "memory", repr(error)
    except BaseException as error:
        outcome, reason = "traceback", f"{type(error).__name__}: {error}".replace("\n", " ")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return ("memory", f"{grown >> 20} MiB; {reason}") if grown > memory // 4 else (outcome, reason)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _span(data: bytes, rng: random.Random, most: int = 400) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.randint(1, most))


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _flip(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 4, 32)) if damaged else 0):
        # Half of the hits go to the head, where formats keep their numbers.
        damaged[rng.randrange(min(len(damaged), rng.choice((400, len(damaged)))))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _remove(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:start] + data[stop:]


def _duplicate(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 3, 1000)) + data[stop:]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng, 16)
    filler = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80"))
    return data[:start] + filler * (stop - start) + data[stop:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randint(0, len(data))
    return data[:place] + rng.randbytes(rng.randint(1, 64)) + data[place:]


def _pack(data: bytes, rng: random.Random) -> bytes:
    bomb = b" " * (64 << 20) if rng.random() < 0.05 else b""
    return gzip.compress(bomb + data, 1, mtime=0)


_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_STRANGE = (
    *(b"1e308", b"-1e308", b"1e999", b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"0", b"-1", b"1e-320"),
    *(b"4294967296", b"99999999", b"-99999999", b"2e8", b"9" * 400),
    *(b"null", b"true", b"[]", b"{}", b'"x"', b"0x10", b""),
)


def _number(data: bytes, rng: random.Random) -> bytes:
    """Some numbers become ones that no picture has, or no numbers at all."""
    places = list(_NUMBER.finditer(data))
    for match in sorted(rng.sample(places, min(len(places), rng.choice((1, 1, 5)))), key=lambda m: -m.start()):
        data = data[: match.start()] + rng.choice(_STRANGE) + data[match.end() :]
    return data


def _nest(data: bytes, rng: random.Random) -> bytes:
    """Brackets or elements in each other, thousands deep."""
    depth = rng.choice((100, 900, 3000, 100_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"<Region>", b"</Region>"), (b"[[0,0],", b"]")))
    places = list(_NUMBER.finditer(data)) or [re.match(b"", data)]
    match = rng.choice([place for place in places if place])
    return data[: match.start()] + opening * depth + match[0] + closing * depth + data[match.end() :]


def _entities(data: bytes, rng: random.Random) -> bytes:
    """Entities that grow a thousandfold at each step, or name a file."""
    doubling = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 1000}">' for i in range(1, 6))
    bodies = (f'<!ENTITY e0 "lol">{doubling}', '<!ENTITY e5 SYSTEM "file:///dev/zero">', '<!ENTITY % e5 "x"> %e5;')
    document = re.sub(rb"^<\?xml.*?\?>", b"", data)
    return f"<!DOCTYPE x [{rng.choice(bodies)}]>".encode() + _NUMBER.sub(b"&e5;", document, count=1)


def _encode(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("latin-1")
    encoding = rng.choice(("utf-16", "utf-16-be", "utf-32", "utf-7", "cp037", "utf-8-sig", "utf-8"))
    return (text + rng.choice(("", "é", "\ud7ff", "\0"))).encode(encoding, errors="replace")


def _declare(data: bytes, rng: random.Random) -> bytes:
    encoding = rng.choice((b"utf-16", b"ascii", b"utf-32", b"klingon", b"shift_jis", b"utf-8"))
    return b'<?xml version="1.0" encoding="' + encoding + b'"?>' + data


def _repeat(data: bytes, rng: random.Random) -> bytes:
    """A long file: the part between two brackets again and again."""
    start, stop = sorted(rng.randint(0, len(data)) for _ in range(2))
    part = data[start:stop]
    return data[:stop] + part * (rng.choice((2, 100, 300_000 // max(1, len(part))))) + data[stop:]


def _spell(data: bytes, rng: random.Random) -> bytes:
    """Names, or words where names are, in another case."""
    change = rng.choice((bytes.lower, bytes.upper, bytes.title))
    return re.sub(rb'(?<=[<"/ ])[A-Za-z_]+(?=[ ="/>])', lambda match: change(match[0]), data)


def _quote(data: bytes, rng: random.Random) -> bytes:
    """Some numbers of a JSON value as text."""
    return re.sub(
        rb"(?<=[ \[])-?\d+(?=[,\]}])", lambda match: b'"%s"' % match[0] if rng.random() < 0.5 else match[0], data
    )


def _tree(data: bytes, rng: random.Random) -> bytes:
    """A JSON value of which one part is lost, doubled, or another thing altogether."""
    try:
        root = [json.loads(data)]
    except (ValueError, RecursionError):
        return _number(data, rng)
    parts: list[tuple[Any, Any]] = []
    pending: list[Any] = [root]
    while pending:
        node = pending.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            parts.append((node, key))
            if isinstance(node[key], (dict, list)):
                pending.append(node[key])
    node, key = rng.choice(parts)
    if rng.random() < 0.2:
        del node[key]
    elif isinstance(node, list) and rng.random() < 0.3:
        node.extend([node[key]] * rng.choice((1, 2, 1000)))
    else:
        strange = (math.nan, math.inf, -1e308, 1e308, 10**400, 0, -1, 1 << 40, None, True, "", "x", "NaN", [], {}, [[]])
        other = rng.choice(parts)
        node[key] = rng.choice((*strange, [[0, 0]] * 5, "9" * 5000, other[0][other[1]] if other[0] else 0))
    try:
        return json.dumps(root[0] if root else None).encode(errors="replace")
    except (ValueError, RecursionError):  # a part put into itself
        return _number(data, rng)


def _unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def _mend_png(data: bytes) -> bytes:
    """The same chunks with right checksums."""
    place, mended = 8, bytearray(data)
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        mended[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(mended[: len(data)])


_WAYS = (_truncate, _flip, _flip, _remove, _duplicate, _overwrite, _insert, _pack)
_XML_WAYS = (_number, _number, _number, _number, _nest, _entities, _encode, _declare, _repeat, _spell)
_JSON_WAYS = (_tree, _tree, _tree, _tree, _number, _nest, _encode, _repeat, _spell, _quote)


def all_seeds(folder: Path) -> Mapping[str, tuple[bytes, Check]]:
    """Every seed by the name of its format, and how its damaged forms are read."""
    slides = {f"slide-{name}": (data, check_slide) for name, data in slide_seeds(folder).items()}
    annotations = {name: (data, check_annotations) for name, data in annotation_seeds().items()}
    return {**annotations, **slides, "folder": (bytes(range(0, 40, 2)), check_folder)}

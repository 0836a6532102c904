"""The ceiling: decode the JPEG tiles that are needed, reduce, encode, write; no checks, no edges, one kind of slide.

With ``half`` as second argument the tiles are decoded at half size, which gives other pixels.
"""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile


def cut(job: dict[str, Any]) -> None:
    cv2.setNumThreads(1)
    factor = 2 if job["half"] else 1
    with tifffile.TiffFile(job["slide"]) as tiff, Path(job["slide"]).open("rb") as stream:
        page = tiff.pages.first
        offsets, counts, pitch = page.dataoffsets, page.databytecounts, page.tilewidth // factor
        columns, side = -(-page.imagewidth // page.tilewidth), round(job["side_l0"]) // factor
        for x, y in job["places"]:
            left, top = x // page.tilewidth, y // page.tilewidth
            first_x, first_y = x // factor - left * pitch, y // factor - top * pitch
            num_x, num_y = -(-(first_x + side) // pitch), -(-(first_y + side) // pitch)
            pixels = np.empty((num_y * pitch, num_x * pitch, 3), np.uint8)
            for row in range(num_y):
                for column in range(num_x):
                    index = (top + row) * columns + left + column
                    stream.seek(offsets[index])
                    data = stream.read(counts[index])
                    tile = decode_half(data) if job["half"] else imagecodecs.jpeg8_decode(data, outcolorspace=2)
                    pixels[row * pitch : (row + 1) * pitch, column * pitch : (column + 1) * pitch] = tile
            image = pixels[first_y : first_y + side, first_x : first_x + side]
            if side != job["tile_px"]:
                image = cv2.resize(image, (job["tile_px"], job["tile_px"]), interpolation=cv2.INTER_AREA)
            encoded = imagecodecs.jpeg8_encode(np.ascontiguousarray(image), job["quality"], subsampling="420")
            Path(job["out"], f"{x}_{y}.jpg").write_bytes(encoded)


def decode_half(data: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)[..., ::-1]


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text()) | {"half": "half" in sys.argv}
    workers = job["workers"]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.map(cut, [{**job, "places": job["places"][i::workers]} for i in range(workers)])

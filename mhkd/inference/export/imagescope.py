"""Aperio ImageScope XML: a layer per class, a rectangle per detection."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from mhkd.inference.export.features import class_color, corners, iter_rows
from mhkd.inference.export.record import SlideRecord
from mhkd.inference.export.xml import write_xml

_COLUMNS = (("9999", "Region"), ("9997", "Length"), ("9996", "Area"), ("9998", "Text"))
_RECTANGLE = "1"


def write_imagescope(path: str | Path, record: SlideRecord) -> None:
    """Write the layers, atomically; vertices in level-0 pixels. A region's text has its score, size and fragment.

    ImageScope opens the file with the slide where both have the same name and folder: ``slide.svs``, ``slide.xml``.
    """
    root, rows = Element("Annotations", MicronsPerPixel=f"{record.slide.mpp:.6f}"), list(iter_rows(record))
    for label, name in enumerate(record.detections.class_names):
        red, green, blue = class_color(label)
        color = str(red + (green << 8) + (blue << 16))
        layer = SubElement(
            root, "Annotation", Id=str(label + 1), Name=name, ReadOnly="0", Type="4", LineColor=color, Visible="1"
        )
        about = SubElement(layer, "Attributes")
        for number, (key, value) in enumerate(record.provenance.items()):
            SubElement(about, "Attribute", Name=key, Id=str(number), Value=str(value))
        regions = SubElement(layer, "Regions")
        headers = SubElement(regions, "RegionAttributeHeaders")
        for identity, header in _COLUMNS:
            SubElement(headers, "AttributeHeader", Id=identity, Name=header, ColumnWidth="-1")
        for number, row in enumerate((row for row in rows if row.label == label), start=1):
            text = f"score {row.score:.4f}, {row.diameter_um:.2f} um, tissue fragment {row.fragment}"
            _add_region(regions, number, corners(row.box), record.slide.mpp_xy, text)
        SubElement(layer, "Plots")
    write_xml(path, root)


def _add_region(
    regions: Element, number: int, points: list[tuple[float, float]], mpp_xy: tuple[float, float], text: str
) -> None:
    (x0, y0), _, (x1, y1), _ = points
    width, height = x1 - x0, y1 - y0
    width_um, height_um = width * mpp_xy[0], height * mpp_xy[1]
    region = SubElement(
        regions,
        "Region",
        Id=str(number),
        Type=_RECTANGLE,
        Zoom="1",
        Selected="0",
        Length=f"{2 * (width + height):.1f}",
        Area=f"{width * height:.1f}",
        LengthMicrons=f"{2 * (width_um + height_um):.1f}",
        AreaMicrons=f"{width_um * height_um:.1f}",
        Text=text,
        NegativeROA="0",
        InputRegionId="0",
        Analyze="1",
        DisplayId=str(number),
    )
    SubElement(region, "Attributes")
    vertices = SubElement(region, "Vertices")
    for x, y in points:
        SubElement(vertices, "Vertex", X=f"{x:.2f}", Y=f"{y:.2f}", Z="0")

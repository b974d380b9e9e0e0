"""Spreadsheets as no program writes them, a part at a time and as large as one likes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable

_MAIN = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_MAIN}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_MAIN}.worksheet+xml"/>'
    f'<Override PartName="/xl/sharedStrings.xml" ContentType="{_MAIN}.sharedStrings+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_SHEETS}" xmlns:r="{_OFFICE}"><sheets>'
    '<sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/sharedStrings" Target="sharedStrings.xml"/>'
    "</Relationships>",
}


def workbook(rows: Iterable[str], strings: Iterable[str] = ()) -> bytes:
    """An .xlsx of these pieces of `sheetData` and of the shared strings, XML as it is."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as parts:
        for name, part in _PARTS.items():
            parts.writestr(name, f'<?xml version="1.0"?>{part}')
        for name, tag, pieces in (
            ("xl/worksheets/sheet1.xml", "worksheet", ("<sheetData>", *rows, "</sheetData>")),
            ("xl/sharedStrings.xml", "sst", strings),
        ):
            with parts.open(name, "w") as file:
                file.write(f'<?xml version="1.0"?><{tag} xmlns="{_SHEETS}">'.encode())
                for piece in pieces:
                    file.write(piece.encode())
                file.write(f"</{tag}>".encode())
    return out.getvalue()


FAR_CELL = workbook(
    [
        '<row r="1"><c r="A1"><v>1</v></c></row>',
        '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
    ]
)
"""1.5 kB; a library that holds all cells as far as the last wants 550 GB for it."""


def long_strings(megabytes: int) -> bytes:
    """A thousandth of that, with one shared string of so many megabytes."""
    return workbook(
        ['<row r="1"><c r="A1" t="s"><v>0</v></c></row>'],
        ["<si><t>", *["a" * 1_000_000] * megabytes, "</t></si>"],
    )


def many_rows(count: int) -> bytes:
    """More rows than Excel has, in a few kilobytes."""
    row = '<row><c t="inlineStr"><is><t>1</t></is></c></row>'
    return workbook([row * 1000] * (count // 1000) + [row * (count % 1000)])

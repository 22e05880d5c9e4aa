"""The catalog without a row, as astropy, VOTable and Parquet describe it: units, meanings, provenance."""

import io
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np
from astropy.io.votable import from_table
from astropy.io.votable.tree import Info, VOTableFile
from astropy.table import Column, Table
from astropy.table.meta import get_yaml_from_table
from numpy.typing import NDArray

from scripts.catalogs.columns import NO_ID, columns_of
from scripts.catalogs.provenance import Card, as_text

VOTABLE = "{http://www.ivoa.net/xml/VOTable/v1.3}"


def described_table(provenance: Mapping[str, Card], rows: NDArray[Any]) -> Table:
    """Return a table of rows, or of none, whose columns know their unit, meaning and UCD."""
    columns = [
        Column(
            data=rows[column.name],
            name=column.name,
            unit=column.unit,
            description=column.description,
            meta={"ucd": column.ucd},
        )
        for column in columns_of(rows.dtype)
    ]
    return Table(columns, meta=as_text(provenance))


def astropy_yaml(provenance: Mapping[str, Card], row: np.dtype[Any]) -> str:
    """Return what astropy's Parquet reader takes units, descriptions and metadata from."""
    return "\n".join(get_yaml_from_table(described_table(provenance, np.empty(0, row))))


def votable_of(provenance: Mapping[str, Card], rows: NDArray[Any]) -> VOTableFile:
    """Return the catalog as a VOTable: rows of shape (N,)."""
    document = from_table(described_table({}, rows))
    (inner,) = document.iter_tables()
    for field, column in zip(inner.fields, columns_of(rows.dtype), strict=True):
        field.ucd = column.ucd
        if column.name == "object_id":
            field.values.null = NO_ID
    for name, text in as_text(provenance).items():
        inner.infos.append(Info(name=name, value=text))
    return document


def votable_xml(provenance: Mapping[str, Card], row: np.dtype[Any]) -> bytes:
    """Return the metadata as VOParquet holds them: a VOTable whose data are elsewhere.

    References
    ----------
    IVOA Note "Parquet in the VO" 1.0 (2025): key ``IVOA.VOTable-Parquet.content``.
    """
    document = votable_of(provenance, np.empty(0, row))
    buffer = io.BytesIO()
    document.to_xml(buffer)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 (written one line above)
    for element in root.iter(f"{VOTABLE}TABLE"):
        for data in element.findall(f"{VOTABLE}DATA"):
            element.remove(data)
    ElementTree.register_namespace("", VOTABLE.strip("{}"))
    xml: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml

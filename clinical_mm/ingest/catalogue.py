"""The feature catalogue of a delivery's genomics: what each feature is, and how its gene was written.

One row a feature of a source, `tables.FEATURES`. What readers do to make the features does not belong here.
"""

from collections import defaultdict

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.ingest.gene_symbols import Renaming
from clinical_mm.ingest.samples import ABSENT_FEATURE, GenomicTables
from clinical_mm.study.sources import GenomicsMafSource, GenomicsMatrixSource, GenomicsVcfSource

GenomicSource = GenomicsMatrixSource | GenomicsMafSource | GenomicsVcfSource

_PREFIXES = {
    "hotspot:": ("hotspot", "present: 1"),
    "spectrum:": ("spectrum", "variants"),
    "signature:": ("signature", "share"),
    "gene_set:": ("gene_set", "mean rank"),
}
"""Kind and unit of features that begin so."""


def feature_catalogue(
    source_name: str, source: GenomicSource, delivery: str, genomic: GenomicTables, renaming: Renaming
) -> pd.DataFrame:
    """Rows of `tables.FEATURES`, in the order of the columns of the values."""
    values = genomic.values
    names = values.column_names[1:]
    is_zero_where_absent = ABSENT_FEATURE in (values.schema.metadata or {})
    written: dict[str, list[str]] = defaultdict(list)
    status: dict[str, str] = {}
    for as_written, resolved in renaming.seen.items():
        written[resolved.symbol].append(as_written)
        # Where the current symbol is there, too, the feature is that one.
        if status.get(resolved.symbol) != "approved":
            status[resolved.symbol] = resolved.status
    kinds = [_kind(source, name) for name in names]
    genes = [_gene(source, name) for name in names]
    rows = pd.DataFrame(
        {
            "source": source_name,
            "delivery": delivery,
            "feature": names,
            "kind": [kind for kind, _ in kinds],
            "unit": [unit for _, unit in kinds],
            "transform": source.transform if isinstance(source, GenomicsMatrixSource) else "none",
            "written_as": [sorted(written.get(gene, [gene])) for gene in genes],
            "symbol_status": [status.get(gene, "not_looked_up") for gene in genes],
            "n_measured": np.array(
                [len(values) - values.column(i + 1).null_count for i in range(len(names))], dtype=np.int64
            ),
            "is_zero_where_absent": is_zero_where_absent,
        },
        columns=tables.FEATURES.columns,
    )
    return rows if len(rows) else tables.empty(tables.FEATURES)


def catalogue_summary(features: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """How many features of each kind there are, and how many genes were found under which kind of symbol."""
    kinds = features.groupby(["source", "kind"], sort=True).size().reset_index(name="features")
    looked_up = features[features["symbol_status"] != "not_looked_up"]
    symbols = looked_up.groupby(["source", "symbol_status"], sort=True).size().reset_index(name="features")
    return {"features by kind": kinds} | ({"gene symbols by status": symbols} if len(symbols) else {})


def _kind(source: GenomicSource, feature: str) -> tuple[str, str | None]:
    for prefix, kind in _PREFIXES.items():
        if feature.startswith(prefix):
            return kind
    if isinstance(source, GenomicsMatrixSource):
        return source.measures, source.unit
    if isinstance(source, GenomicsVcfSource) and not _is_count(source, feature):
        return "dosage", "alternate alleles"
    return "burden", "variants"


def _gene(source: GenomicSource, feature: str) -> str:
    """What was looked up in the table of symbols: of a VCF's `GENE:class` the gene alone."""
    is_count = isinstance(source, GenomicsVcfSource) and _is_count(source, feature)
    return feature.rpartition(":")[0] if is_count else feature


def _is_count(source: GenomicsVcfSource, feature: str) -> bool:
    return source.burden is not None and feature.rpartition(":")[2] in source.burden.classes

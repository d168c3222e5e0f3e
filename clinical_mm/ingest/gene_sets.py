"""Gene-set scores of expression: the mean rank of a set's genes within one sample.

A sample's score depends on nothing but that sample, so a patient alone scores as in the cohort, and nothing of a test
patient reaches a training one; the normalised ssGSEA score and GSVA do not have that. It is the score of singscore for
genes expected up (Foroutan et al., 2018, doi:10.1186/s12859-018-2435-4), with equal values given their mean rank.
"""

from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.gene_symbols import Renaming
from clinical_mm.ingest.samples import Samples

GENE_SET = "gene_set:"
"""How the name of a score's feature begins."""


def load_gene_sets(name: str, declared: str, path: Path) -> dict[str, tuple[str, ...]]:
    """Read a GMT file: a line a set, its name, a description, then its genes, divided by tabs.

    Raises:
        DeliveryError: it is not there or is no UTF-8, a line names no gene, or a set stands twice.
    """
    where = f"source {name}: the gene sets {declared!r}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DeliveryError(
            f"{where} do not exist or cannot be read: name a GMT file, relative to the study file"
        ) from None
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        title, *rest = (field.strip() for field in line.split("\t"))
        genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
        if not title or not genes or title in sets:
            raise DeliveryError(
                f"{where}, line {number}: expected a name that no earlier line has, a description and genes, "
                "divided by tabs"
            )
        sets[title] = genes
    if not sets:
        raise DeliveryError(f"{where} hold no set")
    return sets


def with_gene_sets(
    samples: Samples, sets: dict[str, tuple[str, ...]], minimum: int, renaming: Renaming
) -> Samples:
    """The samples with a feature a gene set beside their own.

    Args:
        samples: with genes as features, under the symbols of `renaming`.
        sets: genes by the name of their set.
        minimum: genes of a set that a sample must have measured, else its score is missing.
        renaming: the genes of the sets are looked up in the same table.

    Returns:
        Scores from -0.5 (the set's genes are the lowest of the sample) to 0.5 (the highest).
    """
    place = {feature: i for i, feature in enumerate(samples.features)}
    members = [
        np.array(sorted({place[g] for g in map(renaming.would_become, genes) if g in place}), dtype=np.int64)
        for genes in sets.values()
    ]
    scores = np.full((len(samples), len(sets)), np.nan, dtype=np.float32)
    for row in range(len(samples)):
        ranks = rankdata(samples.values[row], nan_policy="omit")
        n_measured = int(np.isfinite(ranks).sum())
        for column, genes in enumerate(members):
            own = ranks[genes]
            own = own[np.isfinite(own)]
            if len(own) >= minimum and len(own) < n_measured:
                scores[row, column] = _score(own, n_measured)
    return Samples(
        samples.locators,
        samples.sample_ids,
        samples.patient_ids,
        samples.times,
        [*samples.features, *(f"{GENE_SET}{title}" for title in sets)],
        np.concatenate([samples.values, scores], axis=1),
        samples.absent_feature,
    )


def _score(ranks: np.ndarray, n_measured: int) -> float:
    """The mean rank [k] between the least and the greatest that k of n genes can have, less a half."""
    k = len(ranks)
    least, greatest = (k + 1) / 2, (2 * n_measured - k + 1) / 2
    return float((ranks.mean() - least) / (greatest - least) - 0.5)

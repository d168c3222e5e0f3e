"""Mutational spectra: single-base substitutions by class and context, and exposures to signatures that a study names.

Six classes by the pyrimidine of the pair, 96 with the bases beside it (Alexandrov et al., 2013,
doi:10.1038/nature12477). Every substitution counts, silent ones too: they say how mutations came about, not what they
do. What a variant does to a gene is for `maf`.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.delimited import read_delimited
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.study.genomic_features import Spectrum
from clinical_mm.study.sources import TableFormat

_COMPLEMENT = str.maketrans("ACGT", "TGCA")
CLASSES = ("C>A", "C>G", "C>T", "T>A", "T>C", "T>G")
CONTEXTS = tuple(
    f"{before}[{kind}]{after}" for kind, before, after in itertools.product(CLASSES, "ACGT", "ACGT")
)
"""The 96 types as COSMIC names them: `A[C>T]G`."""

_SUM_TOLERANCE = 0.01
"""A signature's shares are printed with few digits: what their sum may miss 1 by."""


@dataclass(frozen=True)
class SignatureTable:
    """Signatures as shares of the 96 types: names [s] and shares [96, s], in the order of `CONTEXTS`."""

    names: tuple[str, ...]
    shares: np.ndarray


def load_signatures(name: str, declared: str, path: Path) -> SignatureTable:
    """Read signatures as COSMIC writes them: a tab-separated table with the column `Type`, then one a signature.

    Raises:
        DeliveryError: it is not there or cannot be read, does not hold each of the 96 types once, or a signature is no
            distribution.
    """
    where = f"source {name}: the table of mutational signatures {declared!r}"
    if not path.is_file():
        raise DeliveryError(f"{where} does not exist: name one, relative to the study file")
    try:
        records = read_delimited(path, TableFormat(delimiter="\t"), name)
        header = next(records).fields
        rows = {r.fields[0].strip(): r.fields[1:] for r in records if r.problem is None}
    except UnreadableFileError as error:
        raise DeliveryError(f"{where} cannot be read: {error.sentence}") from None
    if header[:1] != ["Type"] or len(header) < 2 or set(rows) != set(CONTEXTS):
        raise DeliveryError(f"{where} needs the column Type with each of the 96 types (A[C>A]A …) once")
    try:
        shares = np.array([rows[context] for context in CONTEXTS], dtype=np.float64)
    except ValueError:
        raise DeliveryError(f"{where} holds a share that is no number") from None
    is_distribution = (shares >= 0).all() and np.allclose(shares.sum(axis=0), 1, atol=_SUM_TOLERANCE)
    if not is_distribution:
        raise DeliveryError(f"{where} holds a signature whose shares are negative or do not add up to 1")
    return SignatureTable(tuple(h.strip() for h in header[1:]), shares)


def substitution(reference: str, alternate: str, context: str | None = None) -> tuple[str, str | None] | None:
    """Class and type of a variant; None where it is no single-base substitution.

    Args:
        reference: of the variant.
        alternate: of the variant.
        context: bases around it, an odd number with the reference in the middle. The type is None without one, and
            where its middle is not the reference.

    >>> substitution("G", "A", "TCGAT")
    ('C>T', 'T[C>T]G')
    """
    before, after = reference.upper(), alternate.upper()
    if len(before) != 1 or len(after) != 1 or before == after or not {before, after} <= set("ACGT"):
        return None
    around = "" if context is None else context.upper()
    middle = len(around) // 2
    trio = around[middle - 1 : middle + 2] if len(around) % 2 and len(around) >= 3 else ""
    if before in "AG":
        before, after = before.translate(_COMPLEMENT), after.translate(_COMPLEMENT)
        trio = trio.translate(_COMPLEMENT)[::-1]
    kind = f"{before}>{after}"
    if len(trio) != 3 or trio[1] != before or not set(trio) <= set("ACGT"):
        return kind, None
    return kind, f"{trio[0]}[{kind}]{trio[2]}"


def spectra(
    ids: np.ndarray,
    samples: np.ndarray,
    found: list[tuple[str, str | None] | None],
    declared: Spectrum,
    signatures: SignatureTable | None,
) -> pd.DataFrame:
    """Counts of substitutions, and exposures.

    Args:
        ids: [n] samples.
        samples: [v] the sample of each variant.
        found: [v] of `substitution`.
        declared: the study's; with `context`, the 96 types are counted as well.
        signatures: to which exposures are fitted by non-negative least squares: each sample by itself.

    Returns:
        [n, features] float32: `spectrum:C>A` …, `spectrum:A[C>A]A` …, and `signature:SBS1` … as shares that add up
        to 1, missing in a sample without a substitution in a known context.
    """
    place = pd.Index(ids).get_indexer(samples)
    columns: dict[str, np.ndarray] = {}
    by_class = _counts(len(ids), place, [f[0] if f else None for f in found], CLASSES)
    columns |= {f"spectrum:{kind}": by_class[:, i] for i, kind in enumerate(CLASSES)}
    if declared.context is not None:
        by_context = _counts(len(ids), place, [f[1] if f else None for f in found], CONTEXTS)
        columns |= {f"spectrum:{kind}": by_context[:, i] for i, kind in enumerate(CONTEXTS)}
        if signatures is not None:
            fitted = np.array([_exposures(row, signatures.shares) for row in by_context])
            fitted = fitted.reshape(len(ids), len(signatures.names))
            columns |= {f"signature:{name}": fitted[:, i] for i, name in enumerate(signatures.names)}
    return pd.DataFrame(columns, index=pd.Index(ids), dtype=np.float32)


def _counts(n: int, place: np.ndarray, kinds: list[str | None], known: tuple[str, ...]) -> np.ndarray:
    counts = np.zeros((n, len(known)))
    column = pd.Index(known).get_indexer(pd.Index(kinds, dtype=object))
    is_known = column >= 0
    np.add.at(counts, (place[is_known], column[is_known]), 1)
    return counts


def _exposures(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    if not counts.any():
        return np.full(shares.shape[1], np.nan)
    fitted, _ = nnls(shares, counts / counts.sum())
    total = fitted.sum()
    return fitted / total if total > 0 else np.full(shares.shape[1], np.nan)

"""The genomics modality: the samples of a patient, of every source, as one row of numbers.

Sources stand side by side: the feature TP53 of the source expression is the column `expression:TP53`. Of several used
samples of one source the mean counts, over those that measured a feature. Nothing is standardised here: statistics
are those of training patients and stand in `statistics`.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.current import current_rows, genomic_values
from clinical_mm.errors import StudyError
from clinical_mm.features.items import joined
from clinical_mm.features.left_out import LeftOut
from clinical_mm.features.matrix import create_matrix, name_matrix
from clinical_mm.progress import track
from clinical_mm.store import Store
from clinical_mm.study.tasks import GenomicsModality

NAME = "genomics"


def build_genomics(
    store: Store, items: pd.DataFrame, directory: Path, settings: GenomicsModality, left_out: LeftOut
) -> tuple[list[str], int]:
    """Write the matrix of all patients who have a sample.

    Args:
        store: where the samples were ingested to.
        items: used items of the genomics modality.
        directory: the snapshot that is being written.
        settings: of the modality; `features` is searched in a feature's own name, without its source.
        left_out: takes samples in which no feature was measured.

    Returns:
        The patients with any value, and the number of features.

    Raises:
        CohortError: a sample is no longer the current one.
        StudyError: `features` matches none.
    """
    columns = ["source", "delivery", "sample_id"]
    rows = current_rows(store, tables.GENOMIC_SAMPLES, "genomics", columns)
    samples = joined(items, rows, rows["sample_id"])
    samples["sample_id"] = samples["item_id"]
    patients = sorted(samples["patient_id"].unique())
    parts: dict[str, pd.DataFrame] = {}
    n_features = 0
    for source, of_source in track(list(samples.groupby("source", sort=True)), "joining genomic sources"):
        values = genomic_values(store, of_source, str(source))
        n_features += values.shape[1]
        chosen = [c for c in values.columns if re.search(settings.features, c)]
        values = values[chosen]
        by_sample = values.notna().any(axis=1).to_numpy()
        for patient_id in of_source["patient_id"][~by_sample]:
            left_out.add(patient_id, NAME, "no_feature_measured")
        parts[str(source)] = _by_patient(values, of_source)
    features = [f"{source}:{feature}" for source, part in parts.items() for feature in part.columns]
    if n_features and not features:
        raise StudyError(
            f"modalities.genomics.features {settings.features!r} matches none of {n_features} features: it is searched "
            "in a feature's name as the source spells it"
        )
    matrix = create_matrix(directory, NAME, patients, features)
    place = {patient_id: i for i, patient_id in enumerate(patients)}
    first = 0
    for part in parts.values():
        last = first + part.shape[1]
        matrix[[place[p] for p in part.index], first:last] = part.to_numpy()
        first = last
    is_kept = np.array([bool(np.isfinite(row).any()) for row in matrix], dtype=bool)
    name_matrix(directory, NAME, patients=patients, features=features, is_kept=is_kept)
    return [p for p, kept in zip(patients, is_kept, strict=True) if kept], len(features)


def _by_patient(values: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """[patients, features] of [samples, features]: the mean over the samples that measured a feature."""
    patients = samples["patient_id"].to_numpy()
    if samples["patient_id"].is_unique:
        return values.set_index(pd.Index(patients))
    names, places = np.unique(patients, return_inverse=True)
    array = values.to_numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Mean of empty slice"
        )  # measured in no sample: missing, as it should be
        means = [np.nanmean(array[places == i], axis=0, dtype=np.float64) for i in range(len(names))]
    return pd.DataFrame(np.array(means, dtype=np.float32), index=names, columns=values.columns)

"""Several genomic samples of one patient in one source: which of them a task reads.

The rule is the study's (`GenomicsModality.samples`); here each sample that it leaves out gets its reason code. What
several that stay become is for `features.genomics`: their mean.
"""

import re

import numpy as np
import pandas as pd

from clinical_mm.study.tasks import GenomicsModality

NORMAL_BESIDE_TUMOUR = "normal_beside_tumour"
SEVERAL_SAMPLES = "several_samples"

REASONS = (NORMAL_BESIDE_TUMOUR, SEVERAL_SAMPLES)
"""Why a sample that may be read is not, by the rule."""


def by_rule(candidates: pd.DataFrame, reasons: np.ndarray, settings: GenomicsModality) -> np.ndarray:
    """Reason codes [n] with those of the rule; "" where a sample may be read.

    Args:
        candidates: `cohort.candidates.COLUMNS`.
        reasons: [n] why a sample may not be read whatever the rule; such a sample counts for nothing here: a tumour
            sample from after the index time does not push the normal one aside.
        settings: of the modality.
    """
    if settings.samples == "mean":
        return reasons
    is_open = pd.Series(reasons == "", index=candidates.index)
    keys = [candidates["patient_id"], candidates["group"]]
    if settings.samples == "refuse":
        n_open = is_open.groupby(keys).transform("sum")
        return np.where(is_open & (n_open > 1), SEVERAL_SAMPLES, reasons).astype(object)
    normal = re.compile(settings.normal)
    is_normal = candidates["item_id"].map(lambda item: normal.search(item) is not None).astype(bool)
    has_tumour = (is_open & ~is_normal).groupby(keys).transform("any")
    return np.where(is_open & is_normal & has_tumour, NORMAL_BESIDE_TUMOUR, reasons).astype(object)

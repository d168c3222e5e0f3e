"""Alignment in time: which items may be read at a patient's index time, and which of those a task chooses.

An item counts when it became available within the window around the index time; both ends are inclusive. A time of
exactly 00:00:00 is a date without a time of day: the item may have become available at any moment of that day, so it
counts as available at the day's end. Timeless items may be read at any index time. Index times stay as they are.

Of several genomic samples the study's rule first sets some aside (`several_samples`).

Of those that may be read, `choose` says which are: `latest`, `first` and `nearest` keep one, or `at_most` of them;
`all` keeps all, or the `at_most` latest. It chooses within a patient for text and images, within a patient's source
for genomics, and within a patient's variable for clinical values. The order of preference, timeless items last, is
also the order in which the model reads: what it has no room for is what is preferred least.
"""

import numpy as np
import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.several_samples import by_rule
from clinical_mm.study.tasks import GenomicsModality, ImageModality, Task, Window

_DAY_US = 86_400_000_000
_TIMELESS = np.iinfo(np.int64).min  # what NaT is as an integer
_FAR_US = 2**61  # farther from any index time than a timestamp can be


def align(candidates: pd.DataFrame, index_times: pd.Series, task: Task, modality: str) -> pd.DataFrame:
    """Decide which candidates of a modality are used, in which order, and why the others are not.

    Args:
        candidates: `candidates.COLUMNS`; every patient has an entry in `index_times`.
        index_times: index time by patient id; all null where the task has none.
        task: the task.
        modality: text, image, genomics or clinical.

    Returns:
        `tables.ITEMS`, sorted by patient, used ones first in the order of rank.
    """
    settings = getattr(task.modalities, modality)
    available_us = available_by_us(candidates["available_time"])
    index_us = _microseconds(candidates["patient_id"].map(index_times))
    reasons = candidates["reason_code"].to_numpy(dtype=object).copy()
    if task.index_time == "outcomes":
        late = window_reasons(available_us, index_us, settings.window)
        reasons = np.where(reasons == "", late, reasons)
    if isinstance(settings, GenomicsModality):
        reasons = by_rule(candidates, reasons, settings)
    order, group, patient = _preference(candidates, available_us, index_us, settings.choose)
    order = order[reasons[order] == ""]  # only what may be read is chosen from
    place = _place_within(group[order])
    reasons[order] = "used"
    if settings.choose != "all":
        reasons[order[place >= (settings.at_most or 1)]] = "not_chosen"
    elif settings.at_most is not None:
        reasons[order[place >= settings.at_most]] = "over_limit"
    if isinstance(settings, ImageModality):
        reasons[order[(reasons[order] == "used") & (place >= settings.max_series)]] = "over_limit"
    used = order[reasons[order] == "used"]
    rank = np.full(len(candidates), -1, dtype=np.int64)
    rank[used] = _place_within(patient[used])
    items = candidates.assign(modality=modality, is_used=reasons == "used", rank=rank, reason_code=reasons)
    by_rank = np.lexsort(
        (_codes(items["item_id"]), np.where(rank < 0, np.iinfo(np.int64).max, rank), patient)
    )
    return items.iloc[by_rank].reset_index(drop=True)[tables.ITEMS.columns]


def available_by_us(available_time: pd.Series) -> np.ndarray:
    """The latest moment at which each item can have become available, in microseconds since 1970; int64 [n].

    That of a date without a time of day is the day's last microsecond; that of a timeless item is the least int64.
    """
    times = _microseconds(available_time)
    is_date = (times % _DAY_US == 0) & (times != _TIMELESS)
    return np.where(is_date, times + _DAY_US - 1, times)


def window_reasons(available_us: np.ndarray, index_us: np.ndarray, window: Window) -> np.ndarray:
    """Why each item may not be read: `after_index`, `out_of_window`, `no_index_time`; "" where it may.

    Args:
        available_us: [n] from `available_by_us`.
        index_us: [n] index times in microseconds.
        window: days relative to the index time; both ends are inclusive.

    Returns:
        [n] text.
    """
    is_timeless = available_us == _TIMELESS
    has_index = index_us != _TIMELESS
    is_late = available_us > _shifted(index_us, window.until_days)
    is_early = np.zeros(len(index_us), dtype=bool)
    if window.from_days is not None:
        is_early = available_us < _shifted(index_us, window.from_days)
    return np.select(
        [is_timeless, ~has_index, is_late & (available_us > index_us), is_late | is_early],
        ["", "no_index_time", "after_index", "out_of_window"],
        default="",
    ).astype(object)


def _shifted(times_us: np.ndarray, days: float) -> np.ndarray:
    shift = max(-_FAR_US, min(_FAR_US, round(days * _DAY_US)))
    return np.where(times_us == _TIMELESS, _TIMELESS, times_us + shift)


def _microseconds(times: pd.Series) -> np.ndarray:
    return times.to_numpy(dtype="datetime64[us]").astype(np.int64)


def _preference(
    candidates: pd.DataFrame, available_us: np.ndarray, index_us: np.ndarray, choose: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the candidates, the preferred first within patient and group; group and patient codes of each.

    Of two at the same time the heavier goes first, then that of the later delivery, then by source and item id.
    """
    is_timeless = available_us == _TIMELESS
    if choose == "first":
        by_time = available_us
    elif choose == "nearest":
        by_time = np.abs(index_us - np.where(is_timeless, 0, available_us))
    else:
        by_time = -np.where(is_timeless, 0, available_us)
    patient = _codes(candidates["patient_id"])
    group = _codes(candidates["group"])
    order = np.lexsort(
        (
            _codes(candidates["item_id"]),
            _codes(candidates["source"]),
            -_codes(candidates["delivery"]),
            -candidates["weight"].to_numpy(dtype=np.int64),
            np.where(is_timeless, 0, by_time),
            is_timeless,
            group,
            patient,
        )
    )
    return order, patient * (group.max(initial=0) + 1) + group, patient


def _codes(values: pd.Series) -> np.ndarray:
    """Whole numbers in the order of the values; int64 [n]."""
    return pd.factorize(values, sort=True)[0].astype(np.int64)


def _place_within(groups: np.ndarray) -> np.ndarray:
    """The place, from 0, of each entry among those of its group; equal groups stand together."""
    n = len(groups)
    is_first = np.ones(n, dtype=bool)
    is_first[1:] = groups[1:] != groups[:-1]
    starts = np.flatnonzero(is_first)
    return np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))

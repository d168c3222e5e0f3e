"""The names under which patients stand on pages and in file names."""

from collections.abc import Iterable

from clinical_mm.store import content_hash

_DIGITS = 10


def pseudonym(study: str, patient_id: str, digits: int = _DIGITS) -> str:
    """A patient's token: the same in every report of a study, another one in every other study.

    >>> pseudonym("demo", "0001") == pseudonym("demo", "0001") != pseudonym("other", "0001")
    True
    """
    return f"P-{content_hash(study, patient_id)[:digits]}"


def pseudonyms(study: str, patient_ids: Iterable[str], digits: int = _DIGITS) -> dict[str, str]:
    """A token for every patient; more digits for all where two would share one."""
    ids = list(dict.fromkeys(patient_ids))
    while len({pseudonym(study, i, digits) for i in ids}) < len(ids):
        digits += 2
    return {i: pseudonym(study, i, digits) for i in ids}

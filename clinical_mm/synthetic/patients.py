"""Who the patients of a synthetic cohort are: their ids, risk factors, outcomes, and which data exists of them.

Three risk factors are drawn independently of each other, one a modality: in the notes, in the image, in the genes.
The outcome is logistic in how many of them a patient has, so that each modality alone says a little and only all
three say much. Age, sex and laboratory values say nothing about the outcome, on purpose. How any of it is written
into files does not belong here.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

import numpy as np

SIGNALS = ("text", "image", "genomics")
"""The modalities that carry a risk factor each."""

_SLOPE = 5.0
"""Log odds of relapse per risk factor, around 1.5 of three: an ideal observer of one reaches an AUROC of .73, of all
three .95."""

_MISSING = {"text": 0.15, "image": 0.15, "genomics": 0.15, "clinical": 0.05}
"""Share of the patients of whom nothing of a modality was delivered."""

_N_IDS = 5000
"""Patient ids are four digits below this: one in five begins with a zero."""


@dataclass(frozen=True)
class Patient:
    """A patient before anything is written. `has` names the modalities of which data exists."""

    number: int
    patient_id: str
    pacs_id: str
    barcode: str
    index_time: datetime
    age_years: int
    sex: str
    signals: dict[str, bool]
    has: frozenset[str]
    relapse: bool
    is_outcome_known: bool
    survival_months: float
    is_event: bool
    grade: str

    @property
    def n_signals(self) -> int:
        """Risk factors present, of three."""
        return sum(self.signals.values())


def stream(seed: int, *parts: int | str) -> np.random.Generator:
    """A random generator of its own for a purpose, the same for the same seed whatever else was drawn."""
    return np.random.default_rng(np.frombuffer(_digest(seed, *parts)[:16], dtype=np.uint32))


def uid(seed: int, *parts: int | str) -> str:
    """A DICOM UID under 2.25 (PS3.5 B.2), a function of the seed and the parts."""
    return f"2.25.{int.from_bytes(_digest(seed, 'uid', *parts)[:16], 'big')}"


def short_hash(seed: int, *parts: int | str) -> str:
    """Ten hexadecimal digits, a function of the seed and the parts."""
    return _digest(seed, "name", *parts).hex()[:10]


def _digest(seed: int, *parts: int | str) -> bytes:
    return hashlib.sha256("\x1f".join(str(p) for p in (seed, *parts)).encode()).digest()


def stray_ids(seed: int, n: int) -> tuple[str, ...]:
    """Ids of the same form that belong to no patient of the cohort."""
    return tuple(f"{number:04d}" for number in _id_numbers(seed)[-n:])


def _id_numbers(seed: int) -> np.ndarray:
    return stream(seed, "ids").permutation(np.arange(1, _N_IDS))


def draw_patients(seed: int, first: int, n: int, *, year: int, unknown_outcomes: float) -> list[Patient]:
    """Draw patients number `first` to `first + n - 1`.

    The eight combinations of risk factors are spread evenly over the patients, and within each the relapses as the
    logistic model expects them: small cohorts have the same difficulty as large ones, and seeds differ little.

    Args:
        seed: of the cohort.
        first: number of the first patient; ids are taken from one list for all deliveries.
        n: how many.
        year: the year in which their index times lie.
        unknown_outcomes: share of those whose outcome is not known yet.
    """
    rng = stream(seed, "patients", first)
    numbers = _id_numbers(seed)[first : first + n]
    pacs = stream(seed, "pacs").permutation(np.arange(100_000, 999_999))[first : first + n]
    signals = np.array(list(product((False, True), repeat=len(SIGNALS))))[np.arange(n) % 2 ** len(SIGNALS)]
    signals = signals[rng.permutation(n)]
    relapse = _spread_relapses(signals, rng)
    missing = {m: set(rng.choice(n, round(share * n), replace=False)) for m, share in _MISSING.items()}
    unknown = set(rng.choice(n, round(unknown_outcomes * n), replace=False))
    patients = []
    for i in range(n):
        risk = float(signals[i].sum()) - 1.5
        time_months = float(rng.exponential(30.0 * np.exp(-1.2 * risk)))
        censored_months = float(rng.uniform(10, 70))
        index_time = datetime(year, 1, 8, 8) + timedelta(
            days=int(rng.integers(0, 340)), minutes=5 * int(rng.integers(6, 108))
        )
        patients.append(
            Patient(
                number=first + i,
                patient_id=f"{numbers[i]:04d}",
                pacs_id=f"RAD{pacs[i]:06d}",
                barcode=f"SYN-{numbers[i]:04d}-01A",
                index_time=index_time,
                age_years=int(np.clip(rng.normal(62, 11), 24, 90)),
                sex="female" if rng.random() < 0.4 else "male",
                signals={name: bool(s) for name, s in zip(SIGNALS, signals[i], strict=True)},
                has=frozenset(m for m, without in missing.items() if i not in without),
                relapse=bool(relapse[i]),
                is_outcome_known=i not in unknown,
                survival_months=round(max(0.1, min(time_months, censored_months)), 1),
                is_event=time_months <= censored_months,
                grade=_grade(int(signals[i, 0]) + int(signals[i, 2]), rng),
            )
        )
    return patients


def _spread_relapses(signals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In each number of risk factors as many relapses as expected (the fraction by lot), to random patients."""
    relapse = np.zeros(len(signals), dtype=bool)
    for code in np.unique(signals @ [1, 2, 4]):
        members = np.flatnonzero(signals @ [1, 2, 4] == code)
        expected = len(members) * _relapse_probability(int(signals[members[0]].sum()))
        n_relapses = int(expected) + int(rng.random() < expected % 1)
        relapse[rng.choice(members, n_relapses, replace=False)] = True
    return relapse


def _grade(n_signals: int, rng: np.random.Generator) -> str:
    place = n_signals if rng.random() < 0.9 else int(rng.integers(0, 3))
    return ("low", "intermediate", "high")[place]


def _relapse_probability(n_signals: int) -> float:
    return float(1 / (1 + np.exp(-_SLOPE * (n_signals - 1.5))))


def ideal_probability(signals: dict[str, bool], seen: frozenset[str] | set[str]) -> float:
    """Probability of relapse for one who sees the signals of some modalities and knows how the label is made."""
    known = sum(signals[m] for m in SIGNALS if m in seen)
    n_hidden = sum(m not in seen for m in SIGNALS)
    hidden = list(product((0, 1), repeat=n_hidden))
    return float(np.mean([_relapse_probability(known + sum(h)) for h in hidden]))


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the receiver operating characteristic: the chance that a positive scores higher, ties half."""
    positive, negative = scores[labels][:, None], scores[~labels][None, :]
    if positive.size == 0 or negative.size == 0:
        return float("nan")
    return float(np.mean((positive > negative) + 0.5 * (positive == negative)))


def ideal_auroc(patients: list[tuple[dict[str, bool], frozenset[str], bool]]) -> dict[str, float]:
    """AUROC of the ideal observer.

    Args:
        patients: the signals, the modalities that are usable, and the label of each labelled patient.

    Returns:
        By modality, over the patients who have it; `complete`: all three signals, over those who have all three;
        `available`: whatever is usable, over all.
    """

    def over(
        members: list[tuple[dict[str, bool], frozenset[str], bool]], seen: frozenset[str] | None
    ) -> float:
        scores = np.array([ideal_probability(s, has if seen is None else seen) for s, has, _ in members])
        return auroc(scores, np.array([label for *_, label in members], dtype=bool))

    result = {m: over([p for p in patients if m in p[1]], frozenset({m})) for m in SIGNALS}
    result["complete"] = over([p for p in patients if p[1].issuperset(SIGNALS)], frozenset(SIGNALS))
    result["available"] = over(patients, None)
    return {name: round(value, 4) for name, value in result.items()}


def ideal_c_index(patients: list[tuple[dict[str, bool], frozenset[str], float, bool]]) -> float:
    """Harrell's c-index of an observer who knows the text and genomics signals that are usable.

    Args:
        patients: the signals, the modalities that are usable, survival in months, and whether death was seen.
    """
    risk = np.array([ideal_probability(s, has & {"text", "genomics"}) for s, has, _, _ in patients])
    months = np.array([m for *_, m, _ in patients])
    is_event = np.array([e for *_, e in patients], dtype=bool)
    is_pair = is_event[:, None] & (months[:, None] < months[None, :])
    higher = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return round(float(higher[is_pair].mean()), 4)

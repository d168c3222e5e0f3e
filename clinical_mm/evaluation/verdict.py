"""What an evaluation comes to: fusion held against the classical baselines and against each single modality.

The paired bootstrap itself stands in `compare`; who may become champion in `clinical_mm.registry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from clinical_mm.evaluation.compare import Comparison, compare
from clinical_mm.evaluation.held_out import HeldOut
from clinical_mm.evaluation.metrics import primary_metric, value
from clinical_mm.evaluation.resampling import draw
from clinical_mm.study.tasks import Task

Key = tuple[str, str]
"""Model and subset, as in `tables.PREDICTIONS`."""


@dataclass(frozen=True)
class Verdict:
    """Comparisons of the fusion model on all modalities, each on the same held-out patients.

    Attributes:
        against_baseline: with the best classical baseline; None where none could be computed.
        against_subsets: with itself where it sees one modality alone, by modality.
        first_line: of the evaluation.
    """

    against_baseline: Comparison | None
    against_subsets: Mapping[str, Comparison]
    first_line: str

    def table(self) -> pd.DataFrame:
        """All comparisons, for a reader."""
        all_of_them = [c for c in (self.against_baseline,) if c is not None]
        all_of_them += list(self.against_subsets.values())
        return pd.DataFrame(
            [
                {
                    "fusion against": c.second,
                    "metric": c.metric,
                    "fusion": c.first_value,
                    "other": c.second_value,
                    "difference": c.difference,
                    "lower": c.lower,
                    "upper": c.upper,
                    "patients": c.n_patients,
                }
                for c in all_of_them
            ]
        )


def judge(task: Task, test: Mapping[Key, HeldOut], whole: Key, seed: int) -> Verdict:
    """Hold the fusion model on all modalities against everything else.

    Args:
        task: of the study.
        test: predictions for test patients, by model and subset.
        whole: key of the fusion model on all modalities.
        seed: of the resamples.
    """
    fusion = test[whole]
    settings = task.evaluation
    if not draw(fusion, 1, seed):
        line = f"The {len(fusion)} held-out patients do not have two outcomes: fusion cannot be judged."
        return Verdict(None, {}, line)

    def against(key: Key, name: str) -> Comparison:
        return compare(
            fusion,
            test[key],
            ("fusion", name),
            n_resamples=settings.bootstrap,
            confidence=settings.confidence,
            margin=task.promotion.margin,
            seed=seed,
        )

    best = best_baseline(test, whole, seed)
    against_baseline = None if best is None else against(best, _baseline_name(best))
    single = {m: against((whole[0], m), f"fusion on {m} alone") for m in whole[1].split("+") if m != whole[1]}
    return Verdict(against_baseline, single, _first_line(against_baseline, settings.baselines))


def best_baseline(test: Mapping[Key, HeldOut], whole: Key, seed: int) -> Key | None:
    """The baseline with the highest primary metric on the very patients that fusion is judged on; None without one.

    Choosing it on the test patients favours the baseline: fusion has to beat whichever did best there.
    """
    fusion = test[whole]
    metric = primary_metric(fusion.kind)
    resamples = draw(fusion, 1, seed)
    complete = {key: held for key, held in test.items() if key[0] != whole[0] and len(held) == len(fusion)}
    if not complete or not resamples:
        return None
    return max(sorted(complete), key=lambda key: value(complete[key], metric, resamples))


def _first_line(comparison: Comparison | None, is_asked: bool) -> str:
    if comparison is None:
        why = "none could be fitted" if is_asked else "the study does not ask for them"
        return f"Fusion was not held against classical baselines: {why}."
    if comparison.is_better:
        verdict = "Fusion is better than the best classical baseline"
    elif comparison.difference >= 0:
        verdict = "Fusion is not measurably better than the best classical baseline"
    elif comparison.upper < 0:
        verdict = "Fusion is WORSE than the best classical baseline: prefer that one"
    else:
        verdict = "Fusion does NOT beat the best classical baseline"
    return f"{verdict} ({comparison.second}): {comparison}."


def _baseline_name(key: Key) -> str:
    model, subset = key
    kind = {"baseline_logistic": "logistic regression", "baseline_cox": "penalised Cox"}.get(model, model)
    return f"{kind} on {subset.replace('+', ' + ')}"

"""What the outcomes say of each patient for one task: the index time, and the label where it is known.

A patient of whom they say two things is left out and counted, never settled by a guess. Which records may be read at
the index time is for `alignment`.
"""

import difflib
from collections.abc import Mapping

import pandas as pd

from clinical_mm.cohort.flow import Flow
from clinical_mm.errors import CohortError
from clinical_mm.study.root import Study
from clinical_mm.study.sources import CategoryVariable, OutcomesSource, Variable
from clinical_mm.study.tasks import BinaryOutcome, MulticlassOutcome, SurvivalOutcome, Task


def label_names(outcome: BinaryOutcome | MulticlassOutcome | SurvivalOutcome) -> dict[int, str]:
    """What the values of a label mean, of those that every split must hold.

    Survival needs events; a cohort without a censored patient is unusual and usable.
    """
    if isinstance(outcome, BinaryOutcome):
        return {
            0: f"{outcome.variable} other than {outcome.positive}",
            1: f"{outcome.variable} {outcome.positive}",
        }
    if isinstance(outcome, MulticlassOutcome):
        return {place: f"{outcome.variable} {name}" for place, name in enumerate(outcome.classes)}
    return {1: f"event ({outcome.event} {outcome.event_value})"}


def task_variables(task: Task) -> tuple[str, ...]:
    """The outcome variables that a task reads."""
    outcome = task.outcome
    if isinstance(outcome, SurvivalOutcome):
        return (outcome.duration, outcome.event)
    return (outcome.variable,)


def task_patients(
    study: Study, task: Task, rows: pd.DataFrame, linked: pd.Series, flow: Flow
) -> pd.DataFrame:
    """Patients whom the task can label or score, with what the outcomes say of them.

    The index time stands in the outcome record, so a task that has one needs the record; a task without takes every
    linked patient, and those of whom the outcomes say nothing have no label.

    Args:
        study: declares the outcome sources.
        task: the task.
        rows: `tables.OUTCOMES` of linked ids, with their patient_id.
        linked: ids of all linked patients; may repeat.
        flow: gets a step for every exclusion.

    Returns:
        Columns patient_id, index_time, label, duration and has_record (of the task's variables), in the order of
        patient_id. label is null where it is not known, or not yet; so is index_time where the task has none.

    Raises:
        CohortError: the outcome's values can never be what the sources declare, or no patient is left.
    """
    variables = task_variables(task)
    sources = _sources_of(study, variables)
    _require_possible(task, sources)
    n_all = rows["patient_id"].nunique()
    rows = rows[rows["source"].isin(study.sources_of_stage("outcomes"))]
    own = rows[rows["variable"].isin(variables) & rows["source"].isin(sources)]
    with_record = set(own["patient_id"])
    if task.index_time == "outcomes":
        patients = pd.DataFrame({"patient_id": sorted(with_record)})
        name = "patients with an outcome record of the task"
        flow.add(name, n_all, len(patients), "no record of its variables")
        patients = _with_index_time(patients, _timed(study, sources, rows, own), flow)
    else:
        patients = pd.DataFrame({"patient_id": sorted(linked.unique())})
        n_linked = len(patients)
        flow.add("linked patients, with or without an outcome record of the task", n_linked, n_linked)
        patients["index_time"] = pd.Series(pd.NaT, index=patients.index, dtype="datetime64[us]")
    patients = _with_label(patients, task, own, flow)
    if patients.empty:
        steps = "; ".join(f"{s.name}: {s.n_in} to {s.n_out}" for s in flow.frame().itertuples(index=False))
        raise CohortError(f"no patient has a usable outcome ({steps}): see `clinical-mm check`")
    return patients.assign(has_record=patients["patient_id"].isin(with_record))


def _sources_of(study: Study, variables: tuple[str, ...]) -> dict[str, OutcomesSource]:
    outcomes = {name: s for name, s in study.sources.items() if isinstance(s, OutcomesSource)}
    return {name: s for name, s in outcomes.items() if set(variables) & set(s.variables)}


def _timed(
    study: Study, sources: Mapping[str, OutcomesSource], rows: pd.DataFrame, own: pd.DataFrame
) -> pd.DataFrame:
    """The rows whose index time counts: the task's own, or all where its sources name no index time."""
    if any(source.index_time is not None for source in sources.values()):
        return own
    return rows


def _with_index_time(patients: pd.DataFrame, timed: pd.DataFrame, flow: Flow) -> pd.DataFrame:
    times = timed.loc[timed["index_time"].notna(), ["patient_id", "index_time"]].drop_duplicates()
    is_repeated = times["patient_id"].duplicated(keep=False)
    conflicting, times = times.loc[is_repeated, "patient_id"].unique(), times[~is_repeated]
    kept = patients[~patients["patient_id"].isin(conflicting)]
    flow.add(
        "patients without contradicting index times", len(patients), len(kept), "two index times or more"
    )
    with_time = kept.merge(times, on="patient_id", how="inner", validate="one_to_one")
    flow.add("patients with an index time", len(kept), len(with_time), "no index time")
    return with_time


def _with_label(patients: pd.DataFrame, task: Task, own: pd.DataFrame, flow: Flow) -> pd.DataFrame:
    outcome = task.outcome
    known = own[own["value_number"].notna() | own["value_text"].notna()]
    if isinstance(outcome, SurvivalOutcome):
        event = known[known["variable"] == outcome.event]
        duration = known[known["variable"] == outcome.duration]
        said = {
            "label": _said(event, _equals(event, outcome.event_value).astype(float)),
            "duration": _said(duration, duration["value_number"]),
        }
    else:
        value = known[known["variable"] == outcome.variable]
        if isinstance(outcome, BinaryOutcome):
            labels = _equals(value, outcome.positive).astype(float)
        else:
            labels = pd.Series(-1.0, index=value.index)  # -1: a class that the task does not name
            for place, name in enumerate(outcome.classes):
                labels[_equals(value, name)] = float(place)
        said = {"label": _said(value, labels)}
    contradicting: set[str] = set()
    for column, (values, in_conflict) in said.items():
        patients = patients.assign(**{column: patients["patient_id"].map(values).astype("float64")})
        contradicting |= in_conflict
    if "duration" not in patients:
        patients["duration"] = pd.Series(float("nan"), index=patients.index)
    kept = patients[~patients["patient_id"].isin(contradicting)]
    flow.add("patients without contradicting outcomes", len(patients), len(kept), "two values or more")
    is_possible = (kept["label"].isna() | (kept["label"] >= 0)) & ~(kept["duration"] < 0)
    possible = kept[is_possible].reset_index(drop=True)
    reason = "a class that the task does not name" if outcome.kind == "multiclass" else "a negative duration"
    if outcome.kind != "binary":
        flow.add("patients whose outcome can be", len(kept), len(possible), reason)
    if isinstance(outcome, SurvivalOutcome):
        is_half = possible["label"].isna() | possible["duration"].isna()
        possible.loc[is_half, ["label", "duration"]] = float("nan")
    return possible


def _said(rows: pd.DataFrame, values: pd.Series) -> tuple[pd.Series, set[str]]:
    """What the rows say of each patient, where all say one thing; and the patients of whom they do not."""
    pairs = pd.DataFrame({"patient_id": rows["patient_id"], "value": values}).drop_duplicates()
    is_repeated = pairs["patient_id"].duplicated(keep=False)
    return pairs[~is_repeated].set_index("patient_id")["value"], set(pairs.loc[is_repeated, "patient_id"])


def _equals(rows: pd.DataFrame, value: str) -> pd.Series:
    """Whether each row holds a value: as text, or as the number that it spells."""
    number = _number(value)
    is_text = rows["value_text"] == value
    return is_text if number is None else is_text | (rows["value_number"] == number)


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _require_possible(task: Task, sources: Mapping[str, OutcomesSource]) -> None:
    """Refuse an outcome whose values no declared variable can take: every patient would have the same label."""
    outcome = task.outcome
    values: tuple[str, ...]
    if isinstance(outcome, BinaryOutcome):
        name, values = outcome.variable, (outcome.positive,)
    elif isinstance(outcome, MulticlassOutcome):
        name, values = outcome.variable, outcome.classes
    else:
        name, values = outcome.event, (outcome.event_value,)
        duration = [
            s.variables[outcome.duration] for s in sources.values() if outcome.duration in s.variables
        ]
        if all(isinstance(variable, CategoryVariable) for variable in duration):
            raise CohortError(
                f"the duration {outcome.duration!r} is declared as a category: declare a number"
            )
    declared = [s.variables[name] for s in sources.values() if name in s.variables]
    for value in values:
        if any(_takes(variable, value) for variable in declared):
            continue
        levels = [x for v in declared if isinstance(v, CategoryVariable) for x in v.levels]
        nearest = difflib.get_close_matches(value, levels, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it is {', '.join(levels) or 'a number'}"
        raise CohortError(f"{name!r} can never be {value!r} as its sources declare it: {hint}")


def _takes(variable: Variable, value: str) -> bool:
    if isinstance(variable, CategoryVariable):
        return value in variable.levels
    return _number(value) is not None

"""Leakage: the audit of a cohort before anything learns from it.

Times and owners of items are read again from what ingest wrote, in Arrow, and compared with the cohort's tables: no
step of linkage or alignment is trusted or shared. Whether two patients have the same content is for `twins`.
"""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clinical_mm import tables
from clinical_mm.cohort.candidates import STAGE_OF_MODALITY
from clinical_mm.cohort.current import TABLE_OF_STAGE, snapshots
from clinical_mm.store import Store
from clinical_mm.study.tasks import Split, Task
from clinical_mm.summary import Check

_KEY = ["source", "delivery", "item_id"]
_DAY_US = 24 * 60 * 60 * 1_000_000


def check_splits(
    cohort: pd.DataFrame, splits: pd.DataFrame, split: Split, recorded: pd.DataFrame | None
) -> Check:
    """No patient in two splits: not within a fold, not since the last time, and in the test of one fold alone."""
    labelled = cohort.loc[cohort["label"].notna(), "patient_id"]
    n_folds = split.folds if split.method == "kfold" else 1
    per_fold = splits.groupby(["patient_id", "fold"]).size()
    n_tests = splits[splits["split"] == "test"].groupby("patient_id").size()
    strangers = set(splits["patient_id"]) ^ set(labelled)
    n_moved = 0
    if recorded is not None:
        both = recorded.merge(splits, on=["patient_id", "fold"], suffixes=("_before", ""))
        n_moved = int((both["split_before"] != both["split"]).sum())
    problems = {
        "patients are in two splits of a fold": int((per_fold > 1).sum()),
        "patients are labelled and in no split, or the reverse": len(strangers),
        "patients are not in every fold": int(
            (splits.groupby("patient_id")["fold"].nunique() != n_folds).sum()
        ),
        "patients are in the test of two folds": int((n_tests > 1).sum()),
        "assignments changed since the last time": n_moved,
    }
    if split.method == "kfold":
        problems["patients are in the test of no fold"] = len(set(labelled) - set(n_tests.index))
    said = f"{len(labelled)} labelled patients, each in one split of each of {n_folds} folds"
    return _check("no patient in two splits", problems, said.replace("each of 1 folds", "the one fold"))


def check_times(task: Task, store: Store, cohort: pd.DataFrame, items: pd.DataFrame) -> Check:
    """Nothing later than the index time, but where a modality's window says so by name."""
    name = "nothing later than the index time"
    if task.index_time == "none":
        return Check(
            name, is_passed=True, sentence="the task declares every item timeless (index_time: none)"
        )
    index_times = pa.table(
        {"patient_id": _text(cohort["patient_id"]), "index_time": _times(cohort["index_time"])}
    )
    n_late = n_unknown = n_checked = 0
    exceptions = []
    for modality in task.modalities.names:
        window = getattr(task.modalities, modality).window
        allowed_us = 0
        if window.allow_after_index and window.until_days > 0:
            allowed_us = round(window.until_days * _DAY_US)
            exceptions.append(f"{modality} up to {window.until_days:g} days after it")
        used = _used(items, modality).join(_delivered(store, modality), keys=_KEY, join_type="left outer")
        used = used.join(index_times, keys="patient_id", join_type="left outer")
        timed = used.filter(pc.is_valid(used.column("delivered_time")))
        available = timed.column("delivered_time").cast(pa.int64())
        day_start = pc.multiply(pc.divide(available, _DAY_US), _DAY_US)
        is_date = pc.equal(available, day_start)
        latest = pc.if_else(is_date, pc.add(available, _DAY_US - 1), available)
        limit = pc.add(timed.column("index_time").cast(pa.int64()), allowed_us)
        n_late += _n_true(pc.greater(latest, limit))
        n_unknown += timed.column("index_time").null_count
        n_checked += timed.num_rows
    problems = {
        "used items became available after the index time": n_late,
        "used items are of patients without an index time": n_unknown,
    }
    by_name = f"; allowed by name: {', '.join(exceptions)}" if exceptions else ""
    return _check(name, problems, f"{n_checked} used items with a time, none of them later{by_name}")


def check_owners(task: Task, store: Store, links: pd.DataFrame, items: pd.DataFrame) -> Check:
    """Every item belongs to a linked patient: the one that linkage gives for the id in the delivered record."""
    is_linked = links["status"] == "linked"
    owners = pa.table(
        {
            "source": _text(links.loc[is_linked, "source"]),
            "source_patient_id": _text(links.loc[is_linked, "source_patient_id"]),
            "owner": _text(links.loc[is_linked, "patient_id"]),
        }
    )
    n_missing = n_other = n_repeated = n_items = 0
    for modality in task.modalities.names:
        own = _used(items, modality, also_unused=True)
        found = own.join(_delivered(store, modality), keys=_KEY, join_type="left outer")
        found = found.join(owners, keys=["source", "source_patient_id"], join_type="left outer")
        n_items += own.num_rows
        n_repeated += found.num_rows - own.num_rows
        n_missing += found.column("owner").null_count
        n_other += _n_true(pc.not_equal(found.column("owner"), found.column("patient_id")))
    problems = {
        "items belong to no linked patient": n_missing,
        "items belong to another patient": n_other,
        "items stand in more than one delivered record": n_repeated,
    }
    return _check(
        "every item belongs to a linked patient", problems, f"{n_items} items, each of the patient linked"
    )


def _check(name: str, problems: dict[str, int], said: str) -> Check:
    wrong = [f"{n} {problem}" for problem, n in problems.items() if n]
    return Check(name, is_passed=not wrong, sentence="; ".join(wrong) or said)


def _used(items: pd.DataFrame, modality: str, also_unused: bool = False) -> pa.Table:
    own = items[(items["modality"] == modality) & (items["is_used"] | also_unused)]
    return pa.table({c: _text(own[c]) for c in ("patient_id", *_KEY)})


def _delivered(store: Store, modality: str) -> pa.Table:
    """Every delivered record of a modality, current or not: `_KEY`, source_patient_id, delivered_time."""
    stage = STAGE_OF_MODALITY[modality]
    table = TABLE_OF_STAGE[stage]
    parts = {
        "text": ["note_id"],
        "image": ["series_instance_uid", "#", "stack"],
        "genomics": ["sample_id"],
        "clinical": ["variable", "@", "delivery", "/", "locator"],
    }[modality]
    named = {p for p in parts if p in table.columns}
    columns = [
        c for c in table.columns if c in {*named, "source", "delivery", "source_patient_id", "available_time"}
    ]
    schema = pa.schema([table.schema.field(c) for c in columns])
    found = [
        tables.read_arrow(table, path, columns).cast(schema) for path in snapshots(store, stage).values()
    ]
    rows = pa.concat_tables(found) if found else schema.empty_table()
    texts = [rows.column(p).cast(pa.string()) if p in named else pa.scalar(p) for p in parts]
    return pa.table(
        {
            "source": rows.column("source"),
            "delivery": rows.column("delivery"),
            "item_id": pc.binary_join_element_wise(*texts, pa.scalar("")),
            "source_patient_id": rows.column("source_patient_id"),
            "delivered_time": rows.column("available_time"),
        }
    )


def _text(values: pd.Series) -> pa.Array:
    return pa.array(values, type=pa.string(), from_pandas=True)


def _times(values: pd.Series) -> pa.Array:
    return pa.array(values, type=pa.timestamp("us"), from_pandas=True)


def _n_true(values: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.fill_null(values, False)).as_py() or 0)

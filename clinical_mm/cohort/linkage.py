"""Linkage: which patient every id of every source stands for, by which rule, and why not where it is not known.

Rules are tried in their order for every id of every source that they name; the first that answers decides. An id
with two answers is ambiguous, and one whose answer is no patient of the study is unlinked: neither is guessed. What
a crosswalk file looks like is for `crosswalks`.
"""

import re
from collections.abc import Sequence

import pandas as pd

from clinical_mm import tables
from clinical_mm.cohort.crosswalks import Crosswalk, crosswalk_files, crosswalk_hashes, read_crosswalk
from clinical_mm.cohort.current import TABLE_OF_STAGE, current_rows, ingest_fingerprints
from clinical_mm.cohort.kept_summary import keep_summary, unchanged_summary
from clinical_mm.errors import CohortError
from clinical_mm.store import Store, content_hash, current, current_about, require_current, snapshot
from clinical_mm.study.linkage import CrosswalkRule, PatternRule
from clinical_mm.study.root import Study
from clinical_mm.study.sources import STAGES
from clinical_mm.summary import Check, StageSummary

VERSION = 1
_LOCK_TIMEOUT_S = 600.0  # every task's cohort links first: the second one waits for the first


def link(study: Study, store: Store) -> StageSummary:
    """Link the ids of all sources to patients: the snapshot `store.linked` with `tables.LINKS`.

    Raises:
        CohortError: nothing was ingested, or a crosswalk cannot be read.
        StoreError: another run is linking.
    """
    with store.lock("linkage", timeout_s=_LOCK_TIMEOUT_S):
        ingested = ingest_fingerprints(store)
        if not ingested:
            raise CohortError("nothing was ingested yet: run `clinical-mm ingest` first")
        files = {
            place: crosswalk_files(study, store, rule, place)
            for place, rule in enumerate(study.linkage.rules, start=1)
            if isinstance(rule, CrosswalkRule)
        }
        fingerprint = content_hash(
            VERSION,
            study.linkage.model_dump(mode="json"),
            {name: source.kind for name, source in study.sources.items()},
            ingested,
            {place: crosswalk_hashes(found) for place, found in files.items()},
        )
        about, standing = current_about(store.linked), current(store.linked)
        if about is not None and standing is not None and about["fingerprint"] == fingerprint:
            return unchanged_summary(standing)
        crosswalks = {
            place: read_crosswalk(rule, files[place], place)
            for place, rule in enumerate(study.linkage.rules, start=1)
            if isinstance(rule, CrosswalkRule)
        }
        links = resolve(study, _ids(study, store), crosswalks)
        summary = _summary(links, crosswalks)
        with snapshot(store.linked, fingerprint) as directory:
            tables.write_table(tables.LINKS, links, directory)
            keep_summary(directory, summary)
        return StageSummary("link", summary.facts, summary.tables, {}, summary.checks, current(store.linked))


def load_links(store: Store) -> pd.DataFrame:
    """The current `tables.LINKS`.

    Raises:
        StoreError: nothing was linked yet.
    """
    return tables.read_table(tables.LINKS, require_current(store.linked, "cohort"))


def links_fingerprint(store: Store) -> str:
    """Fingerprint of the current links."""
    require_current(store.linked, "cohort")
    about = current_about(store.linked)
    return "" if about is None else str(about["fingerprint"])


def patient_sources(study: Study) -> tuple[str, ...]:
    """The sources whose ids define who is a patient."""
    return study.linkage.patients or study.sources_of_stage("outcomes")


def resolve(study: Study, ids: pd.DataFrame, crosswalks: dict[int, Crosswalk]) -> pd.DataFrame:
    """Apply the rules.

    Args:
        study: its rules, and the sources that define the patients.
        ids: columns source, source_patient_id and n_records; an id of a source once.
        crosswalks: by the place of their rule, from 1.

    Returns:
        `tables.LINKS`, in the order of `ids`.
    """
    links = ids.reset_index(drop=True).assign(patient_id=None, rule=None, status="unlinked")
    links["sentence"] = "no rule answers for the id"
    is_open = pd.Series(True, index=links.index)
    for place, rule in enumerate(study.linkage.rules, start=1):
        asked = links.index[is_open & links["source"].isin(rule.sources or tuple(study.sources))]
        source_ids = links.loc[asked, "source_patient_id"]
        is_ambiguous = pd.Series(False, index=asked)
        if isinstance(rule, PatternRule):
            answers = pd.Series(_first_groups(rule.pattern, source_ids.to_list()), index=asked, dtype=object)
            sentence = "the pattern finds the patient's id in the source's"
        elif isinstance(rule, CrosswalkRule):
            answers = source_ids.map(crosswalks[place].answers)
            is_ambiguous = source_ids.isin(crosswalks[place].ambiguous)
            sentence = "the crosswalk names the patient"
        else:
            answers = source_ids
            sentence = "the source's id is the patient's"
        name = f"{place} {rule.rule}"
        linked = answers.index[answers.notna()]
        links.loc[linked, ["rule", "status", "sentence"]] = name, "linked", sentence
        links.loc[linked, "patient_id"] = answers[linked]
        ambiguous = is_ambiguous.index[is_ambiguous]
        links.loc[ambiguous, ["rule", "status"]] = name, "ambiguous"
        links.loc[ambiguous, "sentence"] = "the crosswalk names more than one patient for the id"
        is_open[linked.union(ambiguous)] = False
    return _of_known_patients(study, links)[tables.LINKS.columns]


def _of_known_patients(study: Study, links: pd.DataFrame) -> pd.DataFrame:
    """Unlink the ids whose patient no defining source knows."""
    is_linked = links["status"] == "linked"
    defining = patient_sources(study)
    patients = links.loc[is_linked & links["source"].isin(defining), "patient_id"].unique()
    is_unknown = is_linked & ~links["patient_id"].isin(patients)
    sentence = f"the rule's answer is no patient of {' or '.join(defining)}"
    links.loc[is_unknown, ["patient_id", "status", "sentence"]] = None, "unlinked", sentence
    return links


def _ids(study: Study, store: Store) -> pd.DataFrame:
    """Every id of every declared source, with the number of its current rows."""
    parts = []
    for stage in STAGES:
        rows = current_rows(store, TABLE_OF_STAGE[stage], stage, ["source", "source_patient_id"])
        parts.append(rows[rows["source"].isin(study.sources_of_stage(stage))])
    found = pd.concat(parts, ignore_index=True).value_counts(["source", "source_patient_id"], sort=False)
    return found.sort_index().rename("n_records").reset_index()


def _first_groups(pattern: str, ids: Sequence[str]) -> list[str | None]:
    """What the first group (or, without groups, all of the pattern) matches; None where nothing."""
    compiled = re.compile(pattern)
    group = 1 if compiled.groups else 0
    matches = (compiled.search(source_id) for source_id in ids)
    return [(match.group(group) or None) if match else None for match in matches]


def _summary(links: pd.DataFrame, crosswalks: dict[int, Crosswalk]) -> StageSummary:
    n_by_status = links["status"].value_counts()
    unlinked = links[links["status"] != "linked"]
    n_ambiguous = int(n_by_status.get("ambiguous", 0))
    facts: dict[str, str | int | float] = {
        "patients": int(links["patient_id"].nunique()),
        "linked ids": int(n_by_status.get("linked", 0)),
        "unlinked ids": int(n_by_status.get("unlinked", 0)),
        "ambiguous ids": n_ambiguous,
        "records that are not linked": int(unlinked["n_records"].sum()),
    }
    if crosswalks:
        facts["crosswalk ids corrected by a later delivery"] = sum(c.n_corrected for c in crosswalks.values())
        facts["crosswalk rows without both ids"] = sum(c.n_incomplete for c in crosswalks.values())
    ambiguity = Check(
        "no ambiguous identity",
        is_passed=n_ambiguous == 0,
        sentence=f"{n_ambiguous} ids stand for more than one patient in a crosswalk; their records are not used"
        if n_ambiguous
        else "no id stands for more than one patient",
        is_blocking=False,
    )
    return StageSummary("link", facts, {"linkage by source and rule": linkage_table(links)}, {}, (ambiguity,))


def linkage_table(links: pd.DataFrame) -> pd.DataFrame:
    """Ids and records by source, rule, status and reason."""
    by = ["source", "rule", "status", "sentence"]
    grouped = links.assign(rule=links["rule"].fillna("none")).groupby(by, sort=True)["n_records"]
    return grouped.agg(ids="size", records="sum").reset_index().rename(columns={"sentence": "reason"})

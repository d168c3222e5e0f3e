import pandas as pd
import pytest

from clinical_mm.cohort.linkage import link, load_links
from clinical_mm.errors import CohortError


def linked(hospital):
    """Patient, rule and status by source and id."""
    link(hospital.study, hospital.store)
    links = load_links(hospital.store)
    return {
        (r.source, r.source_patient_id): (r.patient_id, r.rule, r.status)
        for r in links.itertuples(index=False)
    }


def two_sources(hospital, *note_ids):
    for patient in ("P1", "P2"):
        hospital.outcome("d1", patient, "yes", "2020-01-01")
    for i, source_id in enumerate(note_ids):
        hospital.note("d1", source_id, f"n{i}", "2019-01-01")
    hospital.write()


def rules(*rules, patients=()):
    return {"linkage": {"rules": list(rules), "patients": list(patients)}}


CROSSWALK = {
    "rule": "crosswalk",
    "path": "map.csv",
    "source_id": "mrn",
    "patient_id": "study_id",
    "sources": ["notes"],
}
EXACT = {"rule": "exact"}


def test_the_same_id_in_two_sources_is_the_same_patient_and_is_text(hospital):
    hospital.outcome("d1", "001", "yes", "2020-01-01")
    hospital.note("d1", "001", "n1", "2019-01-01")
    hospital.note("d1", "1", "n2", "2019-01-01")
    hospital.write()
    found = linked(hospital)
    assert found["notes", "001"] == ("001", "1 exact", "linked")
    assert found["notes", "1"] == (None, "1 exact", "unlinked")


def test_a_pattern_takes_its_first_group_or_else_the_whole_match(hospital):
    two_sources(hospital, "P1-report-7", "xxP2", "nothing", "P9-report")
    hospital.with_study(
        rules(
            {"rule": "pattern", "pattern": r"^(P\d)-", "sources": ["notes"]},
            {"rule": "pattern", "pattern": r"P\d$"},
        )
    )
    found = linked(hospital)
    assert found["notes", "P1-report-7"] == ("P1", "1 pattern", "linked")
    assert found["notes", "xxP2"] == ("P2", "2 pattern", "linked")
    assert found["notes", "nothing"] == (None, None, "unlinked")
    assert found["notes", "P9-report"] == (None, "1 pattern", "unlinked")  # no outcomes source knows P9
    assert found["registry", "P1"] == ("P1", "2 pattern", "linked")


def test_the_first_rule_that_answers_decides(hospital):
    two_sources(hospital, "m1", "P2")
    (hospital.directory / "map.csv").write_text("mrn,study_id\nm1,P1\nP2,P1\n")
    hospital.with_study(rules(CROSSWALK, EXACT))
    found = linked(hospital)
    assert found["notes", "m1"] == ("P1", "1 crosswalk", "linked")
    assert found["notes", "P2"] == ("P1", "1 crosswalk", "linked")
    assert found["registry", "P2"] == ("P2", "2 exact", "linked")


def test_an_id_with_two_patients_in_a_crosswalk_is_ambiguous_and_no_later_rule_guesses_it(hospital):
    two_sources(hospital, "P1", "m2")
    (hospital.directory / "map.csv").write_text("mrn,study_id\nP1,P1\nP1,P2\nm2,P2\nm2,P2\n")
    hospital.with_study(rules(CROSSWALK, EXACT))
    found = linked(hospital)
    assert found["notes", "P1"] == (None, "1 crosswalk", "ambiguous")
    assert found["notes", "m2"] == ("P2", "1 crosswalk", "linked")
    summary = link(hospital.study, hospital.store)
    assert summary.is_unchanged
    assert summary.facts["ambiguous ids"] == 1
    assert [c.is_passed for c in summary.checks] == [False]
    assert not summary.failed_checks  # a warning: ambiguous ids are left out


def test_crosswalk_ids_stay_text_and_the_files_encoding_and_delimiter_are_used(hospital):
    two_sources(hospital, "0007", "7", "Zoë")
    (hospital.directory / "map.txt").write_text("mrn;study_id\n0007; P1 \nZoë;P2\n;P2\n", encoding="latin-1")
    walk = {**CROSSWALK, "path": "map.txt", "table": {"delimiter": ";", "encoding": "latin-1"}}
    hospital.with_study(rules(walk, EXACT))
    found = linked(hospital)
    assert found["notes", "0007"][0] == "P1"
    assert found["notes", "Zoë"][0] == "P2"
    assert found["notes", "7"] == (None, "2 exact", "unlinked")
    assert link(hospital.study, hospital.store).facts["crosswalk rows without both ids"] == 1


@pytest.mark.parametrize("ids", [["1", "2"], [1, 2]])
def test_a_parquet_crosswalk_of_text_or_whole_numbers(hospital, ids):
    two_sources(hospital, "1", "2")
    pd.DataFrame({"mrn": ids, "study_id": ["P1", "P2"]}).to_parquet(hospital.directory / "map.parquet")
    hospital.with_study(rules({**CROSSWALK, "path": "map.parquet"}, EXACT))
    assert linked(hospital)["notes", "2"] == ("P2", "1 crosswalk", "linked")


def test_a_parquet_crosswalk_of_floats_is_refused(hospital):
    two_sources(hospital, "1")
    frame = pd.DataFrame({"mrn": [1.0, None], "study_id": ["P1", "P2"]})
    frame.to_parquet(hospital.directory / "map.parquet")
    hospital.with_study(rules({**CROSSWALK, "path": "map.parquet"}))
    with pytest.raises(CohortError, match="'mrn' as double: ids are text"):
        link(hospital.study, hospital.store)


def test_a_crosswalk_within_deliveries_is_corrected_by_the_later_one(hospital):
    two_sources(hospital, "m1", "m2", "m3")
    hospital.outcome("d2", "P3", "yes", "2020-01-01")
    hospital.write()
    for delivery, text in {"d1": "m1,P1\nm2,P1\n", "d2": "m2,P2\nm3,P3\n", "not-ingested": "m1,P2\n"}.items():
        folder = hospital.directory / "landing" / delivery / "maps"
        folder.mkdir(parents=True)
        (folder / "map.csv").write_text("mrn,study_id\n" + text)
    hospital.with_study(rules({**CROSSWALK, "path": "maps/*.csv", "within_delivery": True}, EXACT))
    found = linked(hospital)
    assert [found["notes", m][0] for m in ("m1", "m2", "m3")] == ["P1", "P2", "P3"]
    assert link(hospital.study, hospital.store).facts["crosswalk ids corrected by a later delivery"] == 1


def test_two_files_of_one_delivery_that_disagree_are_ambiguous(hospital):
    two_sources(hospital, "m1")
    folder = hospital.directory / "landing" / "d1"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("mrn,study_id\nm1,P1\n")
    (folder / "b.csv").write_text("mrn,study_id\nm1,P2\n")
    hospital.with_study(rules({**CROSSWALK, "path": "*.csv", "within_delivery": True}, EXACT))
    assert linked(hospital)["notes", "m1"] == (None, "1 crosswalk", "ambiguous")


def test_a_crosswalk_that_a_link_takes_from_outside_the_delivery_is_not_read(hospital):
    two_sources(hospital, "m1")
    folder = hospital.directory / "landing" / "d1"
    folder.mkdir(parents=True)
    (hospital.directory / "outside.csv").write_text("mrn,study_id\nm1,P1\n")
    (folder / "map.csv").symlink_to(hospital.directory / "outside.csv")
    hospital.with_study(rules({**CROSSWALK, "path": "*.csv", "within_delivery": True}, EXACT))
    with pytest.raises(CohortError, match="no delivery holds a crosswalk"):
        link(hospital.study, hospital.store)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "rule 1: there is no crosswalk"),
        (b"mnr,study_id\nm1,P1\n", "no column 'mrn': did you mean 'mnr'"),
        (b"mrn,study_id\nm\xe9,P1\n", "not written in utf-8"),
        (b"", "cannot be read as a table"),
        (b"mrn,study_id\nm1,P1,P2\n", "cannot be read as a table"),
    ],
)
def test_a_crosswalk_that_cannot_be_read_is_an_error_that_says_why(hospital, content, message):
    two_sources(hospital, "m1")
    if content is not None:
        (hospital.directory / "map.csv").write_bytes(content)
    hospital.with_study(rules(CROSSWALK, EXACT))
    with pytest.raises(CohortError, match=message) as caught:
        link(hospital.study, hospital.store)
    assert "m1" not in str(caught.value)


def test_the_patients_may_be_defined_by_another_source_than_the_outcomes(hospital):
    two_sources(hospital, "P1")
    hospital.with_study(rules(EXACT, patients=["notes"]))
    found = linked(hospital)
    assert found["registry", "P1"] == ("P1", "1 exact", "linked")
    assert found["registry", "P2"] == (None, "1 exact", "unlinked")


def test_the_summary_counts_ids_and_records_by_source_and_reason(hospital):
    two_sources(hospital, "P1", "P1", "stranger")
    summary = link(hospital.study, hospital.store)
    assert summary.facts["patients"] == 2
    assert summary.facts["linked ids"] == 3
    assert summary.facts["unlinked ids"] == 1
    assert summary.facts["records that are not linked"] == 1
    table = summary.tables["linkage by source and rule"].set_index(["source", "status"])
    assert table.loc[("notes", "linked"), ["ids", "records"]].tolist() == [1, 2]
    assert table.loc[("notes", "unlinked"), "reason"] == "the rule's answer is no patient of registry"
    assert "stranger" not in table.to_string()


def test_linking_again_changes_nothing_until_a_crosswalk_or_a_delivery_does(hospital):
    two_sources(hospital, "m1")
    path = hospital.directory / "map.csv"
    path.write_text("mrn,study_id\nm1,P1\n")
    hospital.with_study(rules(CROSSWALK, EXACT))
    first = link(hospital.study, hospital.store)
    again = link(hospital.study, hospital.store)
    assert (first.is_unchanged, again.is_unchanged) == (False, True)
    assert again.facts == first.facts
    assert again.path == first.path
    title = "linkage by source and rule"
    pd.testing.assert_frame_equal(again.tables[title], first.tables[title])
    path.write_text("mrn,study_id\nm1,P2\n")
    assert not link(hospital.study, hospital.store).is_unchanged
    hospital.note("d2", "m1", "n9", "2019-01-01")
    hospital.write()
    assert not link(hospital.study, hospital.store).is_unchanged


def test_linking_before_anything_was_ingested_says_so(hospital):
    with pytest.raises(CohortError, match="clinical-mm ingest"):
        link(hospital.study, hospital.store)

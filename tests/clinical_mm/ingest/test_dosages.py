"""Dosages: copies of the asked-for allele, missing where an allele is not known, and never zero instead."""

import numpy as np
import pytest

from clinical_mm.ingest.dosages import SiteDosages, dosage_of
from clinical_mm.ingest.vcf_wire import Site

NAN = float("nan")
A_TO_G = Site("1", 100, "A", "G")


@pytest.mark.parametrize(
    ("genotype", "dosage"),
    [
        ([0, 0], 0),
        ([0, 1], 1),
        ([1, 0], 1),
        ([1, 1], 2),
        ([0, -2], 0),  # haploid
        ([1, -2], 1),
        ([-1, -1], NAN),
        ([0, -1], NAN),
        ([-1, 1], NAN),
        ([-1, -2], NAN),
        ([-2, -2], NAN),
        ([1, 2], 1),  # the other allele is C
        ([2, 2], 0),
        ([1, 3], 1),  # * is no copy of anything
        ([0, 4], NAN),  # <NON_REF> may be any allele
        ([1, 5], NAN),  # and so may what a breakend leads to
        ([0, 9], NAN),  # the record lists no such allele
    ],
)
def test_the_asked_for_allele_counts_alone(genotype: list[int], dosage: float) -> None:
    alternates = ["G", "C", "*", "<NON_REF>", "A[2:321[", "<DEL>"]
    found = dosage_of(np.array([genotype]), 1, alternates)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([dosage]))


def test_a_genotype_of_three_alleles_has_no_dosage_and_its_neighbour_has() -> None:
    np.testing.assert_array_equal(dosage_of(np.array([[0, 1, 1], [0, 1, -2]]), 1, ["G"]), [NAN, 1])


def _taken(*records: tuple[int, int, str, list[str], list[list[int]]], absent: bool = False) -> list[float]:
    sites = SiteDosages([A_TO_G], 2)
    for start, end, reference, alternates, alleles in records:
        sites.take("1", start, end, reference, alternates, np.array(alleles))
    return sites.values(is_absent_reference=absent)[:, 0].tolist()


def _same(found: list[float], expected: list[float]) -> None:
    np.testing.assert_array_equal(found, expected)


def test_a_site_without_a_record_is_missing_unless_absence_is_declared_to_be_reference() -> None:
    _same(_taken(), [NAN, NAN])
    _same(_taken(absent=True), [0, 0])
    _same(_taken((100, 100, "A", ["G"], [[-1, -1], [0, 1]]), absent=True), [NAN, 1])


def test_a_record_of_another_reference_or_position_is_none_of_the_site() -> None:
    _same(_taken((100, 100, "AT", ["G"], [[1, 1], [1, 1]])), [NAN, NAN])
    _same(_taken((101, 101, "A", ["G"], [[1, 1], [1, 1]])), [NAN, NAN])


def test_a_record_that_lists_other_alleles_says_that_there_is_no_copy() -> None:
    _same(_taken((100, 100, "A", ["T"], [[0, 1], [0, -1]])), [0, NAN])
    _same(_taken((100, 100, "A", [], [[0, 0], [0, 0]])), [0, 0])
    split = [(100, 100, "A", ["T"], [[0, 1], [0, 0]]), (100, 100, "A", ["G"], [[1, 0], [1, 1]])]
    _same(_taken(*split), [1, 2])
    _same(_taken(*split[::-1]), [1, 2])


def test_records_of_the_same_allele_that_contradict_each_other_leave_it_missing() -> None:
    records = [(100, 100, "A", ["G"], [[0, 1], [1, 1]]), (100, 100, "A", ["G"], [[0, 1], [0, 1]])]
    _same(_taken(*records), [1, NAN])
    _same(_taken(*records, records[0]), [1, NAN])


def test_a_reference_block_covers_the_positions_that_it_spans() -> None:
    block = (90, 100, "C", ["<NON_REF>"], [[0, 0], [-1, -1]])
    _same(_taken(block), [0, NAN])
    _same(_taken(block, absent=True), [0, NAN])
    _same(_taken((90, 99, *block[2:])), [NAN, NAN])
    _same(_taken((90, 120, "C", ["<DEL>"], [[0, 0], [0, 0]])), [NAN, NAN])
    _same(_taken(block, (100, 100, "A", ["G"], [[0, 1], [1, 1]])), [1, 2])


def test_only_spans_that_hold_a_site_are_wanted() -> None:
    sites = SiteDosages([A_TO_G, Site("X", 5, "A", "C")], 1)
    asked = [("1", 100, 100), ("1", 99, 99), ("1", 101, 300), ("1", 1, 300), ("2", 100, 100), ("X", 5, 5)]
    assert [sites.is_wanted(*span) for span in asked] == [True, False, False, True, False, True]

"""Annotations: which gene and class an allele falls in, in both forms, once however many transcripts say so."""

import pytest

from clinical_mm.ingest.consequences import Consequences, shortened_alleles
from clinical_mm.ingest.opening import UnreadableFileError

CLASSES = {
    "truncating": ("stop_gained", "frameshift_variant"),
    "coding": ("stop_gained", "missense_variant"),
}
VEP = ["Allele", "Consequence", "SYMBOL"]


def _vep(annotation: str, reference: str, *alternates: str, fields: list[str] = VEP, **of: object) -> object:
    return Consequences(fields, CLASSES, of.get("genes", ())).of_record(annotation, reference, alternates)


def test_transcripts_of_a_gene_say_it_once_and_terms_joined_by_ampersands_all_count() -> None:
    annotation = "T|stop_gained&splice_region_variant|VHL,T|stop_gained|VHL,T|missense_variant|KIT,T|intron_variant|KIT"
    assert _vep(annotation, "C", "T") == {
        (1, "VHL", "truncating"),
        (1, "VHL", "coding"),
        (1, "KIT", "coding"),
    }


def test_a_term_that_another_begins_with_is_another_term() -> None:
    assert _vep("T|stop_gained_like|VHL", "C", "T") == set()


def test_entries_without_a_gene_or_of_genes_that_are_not_asked_for_count_nowhere() -> None:
    assert _vep("T|missense_variant|", "C", "T") == set()
    assert _vep("T|missense_variant", "C", "T") == set()
    assert _vep("T|missense_variant|VHL,T|missense_variant|KIT", "C", "T", genes=("KIT",)) == {
        (1, "KIT", "coding")
    }


def test_snpeff_names_its_fields_and_alleles_its_own_way() -> None:
    fields = ["Allele", "Annotation", "Annotation_Impact", "Gene_Name"]
    annotation = "CA|frameshift_variant|HIGH|VHL,G|missense_variant|MODERATE|VHL"
    assert _vep(annotation, "C", "G", "CA", fields=fields) == {(2, "VHL", "truncating"), (1, "VHL", "coding")}


def test_vep_drops_the_first_base_that_all_alleles_of_different_lengths_share() -> None:
    # The example of the VEP documentation: "-" is the deletion, the rest the bases that are inserted.
    assert shortened_alleles("CA", ["C", "CAT"]) == ["-", "AT"]
    assert shortened_alleles("A", ["G", "T"]) == ["G", "T"]
    assert shortened_alleles("A", ["G", "AT"]) == ["G", "AT"]
    assert _vep("-|frameshift_variant|VHL", "CA", "CAT", "C") == {(2, "VHL", "truncating")}


def test_a_number_of_the_allele_says_which_it_is() -> None:
    fields = ["Consequence", "SYMBOL", "ALLELE_NUM"]
    assert _vep("missense_variant|VHL|2", "A", "G", "T", fields=fields) == {(2, "VHL", "coding")}


def test_an_entry_that_fits_several_alleles_is_refused_where_it_would_count() -> None:
    fields = ["Consequence", "SYMBOL"]
    with pytest.raises(UnreadableFileError, match="several alternate alleles") as refused:
        _vep("missense_variant|VHL", "A", "G", "T", fields=fields)
    assert refused.value.reason_code == "ambiguous_annotation"
    assert _vep("intron_variant|VHL", "A", "G", "T", fields=fields) == set()


def test_an_annotation_without_consequence_or_gene_is_refused() -> None:
    for fields in (["Allele", "SYMBOL"], ["Allele", "Consequence"]):
        with pytest.raises(ValueError, match="no field"):
            Consequences(fields, CLASSES, ())

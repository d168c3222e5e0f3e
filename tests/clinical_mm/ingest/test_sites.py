"""The table of sites: every row is a site and a name, or an error that says which row is not."""

from pathlib import Path

import pytest

from clinical_mm.errors import DeliveryError
from clinical_mm.ingest.sites import load_sites
from clinical_mm.ingest.vcf_wire import Site
from clinical_mm.study.sources import VcfSites

HEADER = "chrom,pos,ref,alt,name\n"


def _load(folder: Path, content: str, name: str = "sites.csv") -> tuple[tuple[str, ...], tuple[Site, ...]]:
    (folder / name).write_text(content)
    table = load_sites("s", VcfSites(path=name), folder / name)
    return table.names, table.sites


def test_rows_are_sites_without_chr_and_in_capitals_in_their_order(tmp_path: Path) -> None:
    names, sites = _load(tmp_path, HEADER + "chrX,5,a,gt,first\n1,2,C,T,second\n")
    assert names == ("first", "second")
    assert sites == (Site("X", 5, "A", "GT"), Site("1", 2, "C", "T"))


def test_a_tab_separated_table_may_have_other_columns_in_any_order(tmp_path: Path) -> None:
    content = "name\tgene\tchrom\tpos\tref\talt\nx\tVHL\t3\t10\tA\tG\n"
    assert _load(tmp_path, content, "sites.tsv") == (("x",), (Site("3", 10, "A", "G"),))


@pytest.mark.parametrize(
    "row",
    [
        "1,0,A,G,x",
        "1,-3,A,G,x",
        "1,1.0,A,G,x",
        ",1,A,G,x",
        "1,1,A,G,",
        "1,1,A,G,sample_id",
        "1,1,A,<DEL>,x",
        "1,1,A,*,x",
        "1,1,A,,x",
        "1,1,A,.,x",
        "1,1,A,a,x",
        "1,1,A,G",
        "1,9,A,C,taken",
        "chr1,7,A,C,x",
    ],
)
def test_a_row_that_is_no_site_is_an_error_that_names_the_row(tmp_path: Path, row: str) -> None:
    with pytest.raises(DeliveryError, match=r"sites\.csv', row 2: "):
        _load(tmp_path, f"{HEADER}1,7,A,C,taken\n{row}\n")


def test_a_table_that_is_missing_empty_or_of_other_columns_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="does not exist"):
        load_sites("s", VcfSites(path="none.csv"), tmp_path / "none.csv")
    with pytest.raises(DeliveryError, match="holds no site"):
        _load(tmp_path, HEADER)
    with pytest.raises(DeliveryError, match="no column 'alt'"):
        _load(tmp_path, HEADER.replace("alt", "alternate"))
    with pytest.raises(DeliveryError, match="cannot be read"):
        _load(tmp_path, "")

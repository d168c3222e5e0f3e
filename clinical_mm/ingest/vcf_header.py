"""What the meta-information lines of a VCF declare: version, genome build, and the fields of annotations.

The lengths of chromosomes are those of the Genome Reference Consortium's assemblies.
"""

import re
from collections.abc import Sequence

VERSIONS = ("4.1", "4.2", "4.3", "4.4", "4.5")
"""The versions that are read."""

_CHROMOSOMES = (*(str(n) for n in range(1, 23)), "X", "Y")
_LENGTHS = {
    "GRCh37": "249250621 243199373 198022430 191154276 180915260 171115067 159138663 146364022 141213431 135534747 "
    "135006516 133851895 115169878 107349540 102531392 90354753 81195210 78077248 59128983 63025520 48129895 "
    "51304566 155270560 59373566",
    "GRCh38": "248956422 242193529 198295559 190214555 181538259 170805979 159345973 145138636 138394717 133797422 "
    "135086622 133275309 114364328 107043718 101991189 90338345 83257441 80373285 58617616 64444167 46709983 "
    "50818468 156040895 57227415",
}
CONTIG_LENGTHS = {
    build: dict(zip(_CHROMOSOMES, map(int, lengths.split()), strict=True))
    for build, lengths in _LENGTHS.items()
}
"""Bases of each main chromosome, by build: 1 to 22, X and Y, without `chr`."""

_CONTIG = re.compile(r"##contig=<(.*)>\s*$")
_ID = re.compile(r"(?:^|,)\s*ID=([^,]+)")
_LENGTH = re.compile(r"(?:^|,)\s*length=(\d{1,12})(?:,|$)")


def plain_chromosome(name: str) -> str:
    """The name of a chromosome without `chr`, in capitals."""
    return name.upper().removeprefix("CHR")


def version_of(header: Sequence[str]) -> str | None:
    """The version that the first line declares (VCF specification, section 1.4.1), or None.

    >>> version_of(["##fileformat=VCFv4.3"])
    '4.3'
    """
    found = re.fullmatch(r"##fileformat=VCFv(\d+\.\d+)\s*", header[0]) if header else None
    return found[1] if found else None


def contradicted_by(header: Sequence[str], build: str) -> str | None:
    """How the contig lines (section 1.4.7) contradict a build, in words; None where they fit it or name no length.

    >>> contradicted_by(["##contig=<ID=chr1,length=249250621>"], "GRCh38")
    'the contig lengths of the header are those of GRCh37, and the source declares GRCh38'
    """
    lengths: dict[str, int] = {}
    for line in header:
        if (contig := _CONTIG.match(line)) is None:
            continue
        name, length = _ID.search(contig[1]), _LENGTH.search(contig[1])
        if name and length and (chromosome := plain_chromosome(name[1].strip())) in _CHROMOSOMES:
            lengths[chromosome] = int(length[1])
    fitting = [b for b, known in CONTIG_LENGTHS.items() if all(known[c] == n for c, n in lengths.items())]
    if build in fitting:
        return None
    others = " or ".join(fitting) or "neither GRCh37 nor GRCh38"
    return f"the contig lengths of the header are those of {others}, and the source declares {build}"


def annotation_fields(header: Sequence[str], annotation: str) -> list[str]:
    """The fields of an annotation, in order, as its INFO line describes them; empty where none does.

    VEP writes them after `Format:`, SnpEff between single quotes.

    >>> annotation_fields(['##INFO=<ID=CSQ,Number=.,Description="VEP. Format: Allele|Consequence">'], "CSQ")
    ['Allele', 'Consequence']
    """
    for line in header:
        if re.match(rf"##INFO=<ID={annotation},", line) and (text := re.search(r'Description="(.*)"', line)):
            described = text[1].rpartition("Format:")[2]
            quoted = re.search(r"'([^']*)'", described)
            fields = [f.strip() for f in (quoted[1] if quoted else described).split("|")]
            return fields if len(fields) > 1 else []
    return []

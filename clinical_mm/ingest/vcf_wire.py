"""What a VCF worker is asked and what it answers: the messages between the two processes.

Only data belongs here, encoded as MessagePack by msgspec. What fills the messages is in `vcf_reading`; who sends them
in `vcf_process`.
"""

import msgspec

READY = b"\x01"
"""A worker's first byte: its libraries are there."""


class Site(msgspec.Struct, frozen=True, array_like=True):
    """A plain variant whose dosage is asked for.

    Attributes:
        chromosome: without `chr`.
        position: from 1, as in POS.
        reference: bases in capitals.
        alternate: bases in capitals.
    """

    chromosome: str
    position: int
    reference: str
    alternate: str


class Burden(msgspec.Struct, frozen=True):
    """Which consequences are counted.

    Attributes:
        annotation: the INFO field, CSQ or ANN.
        classes: terms by the name of their class.
        genes: genes to count in; all where it is empty.
        hotspots: protein changes to look for, as `study.genomic_features.Hotspots` has them.
        hotspot_genes: further symbols by a hotspot's gene.
    """

    annotation: str
    classes: dict[str, tuple[str, ...]]
    genes: tuple[str, ...]
    hotspots: tuple[str, ...] = ()
    hotspot_genes: dict[str, tuple[str, ...]] = {}


class ReadRequest(msgspec.Struct, frozen=True):
    """Read one file."""

    path: bytes
    build: str
    sites: tuple[Site, ...]
    is_absent_reference: bool
    burden: Burden | None
    is_passing_only: bool


class Genotypes(msgspec.Struct, frozen=True, tag="genotypes"):
    """What a file says of its samples.

    Attributes:
        samples: [n] as the header names them.
        dosages: [n, sites] float32 in C order, NaN where a dosage is missing.
        counted: names of the features that were counted, `GENE:class`.
        counts: [n, counted] float32 in C order.
    """

    samples: tuple[str, ...]
    dosages: bytes
    counted: tuple[str, ...]
    counts: bytes


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Why a file cannot be used: a stable code and a sentence without identifiers."""

    reason_code: str
    sentence: str


class Mismatch(msgspec.Struct, frozen=True, tag="mismatch"):
    """The file does not fit what the study declares; the sentence says in what."""

    sentence: str


Answer = Genotypes | Refusal | Mismatch

"""The genomics of a synthetic cohort: an expression matrix, a MAF and the list of sequenced samples.

Patients with the genomics signal have eight genes about two standard deviations higher, and one gene mutated far
more often. Every sample is entered in the tally with what has to become of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clinical_mm.synthetic.patients import Patient, stream
from clinical_mm.synthetic.truth import Tally

EXPRESSION, MUTATIONS = "expression", "mutations"
"""The sources."""

PLANTED_GENES = ("AURKA", "BIRC5", "CCNB1", "CDK1", "MKI67", "PLK1", "RRM2", "TOP2A")
"""Higher by `SHIFT_SD` in patients with the signal. Chosen for the tale: nothing here is a finding."""

MUTATION_GENE = "TP53"
SHIFT_SD = 2.2

_OTHER_GENES = """
    ACTB ADH1A AFP AHSG ALB ALDOB APOA1 APOA2 APOB APOC3 APOE APOH ARG1 ASGR1 ASS1 B2M BAX BCL2 C3
    C4A CAT CD14 CD34 CD44 CD68 CD8A CDH1 CEBPA CPS1 CRP CTSB CXCL8 CYP1A2 CYP2C9 CYP2E1 CYP3A4 DCN
    EGFR EPCAM F2 F5 F7 F9 FABP1 FASN FGA FGB FGF21 FGG FN1 FOXA2 G6PC1 GAPDH GC GCK GLUL GLS2 GPC3
    GPT GSTA1 HAMP HMGCR HNF1A HNF4A HP HPD HPX IGF1 IGF2 IL6R ITIH1 KNG1 KRT18 KRT19 KRT8 LDLR LIPC
    LPA LUM MAT1A MET MTTP NNMT NR1H4 ORM1 PAH PCK1 PLG PPARA PROC RBP4 SAA1 SERPINA1 SERPINC1
    SLC10A1 SLC2A2 SLCO1B1 SOD2 SPP1 STAT3 TGFB1 THBS1 TIMP1 TTR UGT1A1 VEGFA VIM VTN VWF XBP1
    ZBTB16 ZFP36
"""
GENES = tuple(sorted({*PLANTED_GENES, *_OTHER_GENES.split()}))
"""The 120 genes of the matrix."""

_MUTATED_OTHERS = ("ALB", "APOB", "ARID1A", "AXIN1", "CTNNB1", "KEAP1", "NFE2L2", "RB1", "TERT", "TSC2")
_N_PROGRAMMES = 4
_MAF_COLUMNS = (
    "Hugo_Symbol",
    "NCBI_Build",
    "Chromosome",
    "Start_Position",
    "End_Position",
    "Variant_Classification",
    "Variant_Type",
    "Reference_Allele",
    "Tumor_Seq_Allele2",
    "Tumor_Sample_Barcode",
)
_KINDS = ("Missense_Mutation", "Nonsense_Mutation", "Splice_Site")


@dataclass
class GenomicFiles:
    """The genomic files of one delivery, collected and then written."""

    seed: int
    delivery: str
    rows: list[tuple[str, list[str]]] = field(default_factory=list)
    variants: list[tuple[str, ...]] = field(default_factory=list)
    sequenced: list[str] = field(default_factory=list)
    tallies: dict[str, Tally] = field(
        default_factory=lambda: {EXPRESSION: Tally("sample"), MUTATIONS: Tally("variant")}
    )

    def add(self, patient: Patient) -> tuple[str, ...]:
        """Add a patient's sample to both sources.

        Returns:
            The mutation gene where the patient has a non-silent variant of it, else nothing.
        """
        rng = stream(self.seed, "genomics", patient.number)
        self.add_expression(patient.barcode, _expression(rng, patient.signals["genomics"]))
        self.sequenced.append(patient.barcode)
        is_mutated = bool(rng.random() < (0.75 if patient.signals["genomics"] else 0.1))
        for gene in [MUTATION_GENE] * is_mutated:
            self._variant(gene, patient.barcode, _KINDS[int(rng.integers(3))], rng)
        for gene in rng.choice(_MUTATED_OTHERS, int(rng.integers(0, 4)), replace=False):
            self._variant(str(gene), patient.barcode, _KINDS[int(rng.integers(3))], rng)
        for gene in rng.choice((*_MUTATED_OTHERS, MUTATION_GENE), int(rng.integers(0, 2)), replace=False):
            self._variant(str(gene), patient.barcode, "Silent", rng)
        return (MUTATION_GENE,) if is_mutated else ()

    def add_expression(self, barcode: str, values: np.ndarray, fate: str = "accepted") -> None:
        """Add a row of the matrix; NaN is written as NA. `fate` as in `Tally`, or a reason code."""
        self.rows.append((barcode, ["NA" if np.isnan(v) else f"{v:.3f}" for v in values]))
        tally = self.tallies[EXPRESSION]
        if fate in ("accepted", "duplicate"):
            setattr(tally, fate, getattr(tally, fate) + 1)
        else:
            tally.quarantined[fate] += 1

    def add_unusable(
        self, with_samples: list[Patient], without_samples: list[Patient], strangers: Iterable[str]
    ) -> None:
        """Add what is wrong in real matrices.

        Args:
            with_samples: patients added before; one row is repeated, one has a cell that is no number, three have
                a sample of normal tissue besides, which no linkage rule takes for the patient's tumour.
            without_samples: patients without usable genomics: one empty row, one sample in two versions.
            strangers: barcodes of nobody.
        """
        rng = stream(self.seed, "genomics mess", self.delivery)
        repeated = next(row for row in self.rows if row[0] == with_samples[0].barcode)
        self.rows.append(repeated)
        self.tallies[EXPRESSION].duplicate += 1
        spoiled = next(row for row in self.rows if row[0] == with_samples[1].barcode)
        spoiled[1][GENES.index("VIM")] = "<LOD"
        self.tallies[EXPRESSION].cells["not_a_number"] += 1
        for patient in with_samples[2:5]:
            self.add_expression(patient.barcode[:-3] + "11A", _expression(rng, False))
        self.add_expression(without_samples[0].barcode, np.full(len(GENES), np.nan), "empty_row")
        for _ in range(2):
            self.add_expression(without_samples[1].barcode, _expression(rng, False), "conflicting_records")
        for barcode in strangers:
            self.add_expression(barcode, _expression(rng, False))
        self.variants.append(("", *self.variants[0][1:]))
        self.tallies[MUTATIONS].quarantined["missing_value"] += 1

    def write(self, directory: Path) -> None:
        """Write `genomics/` below the folder of a delivery, rows in random order."""
        rng = stream(self.seed, "genomics order", self.delivery)
        folder = directory / "genomics"
        folder.mkdir(parents=True)
        rows = [self.rows[i] for i in rng.permutation(len(self.rows))]
        lines = ["\t".join(("sample", *GENES)), *("\t".join((barcode, *cells)) for barcode, cells in rows)]
        (folder / "expression.tsv").write_bytes(("\n".join(lines) + "\n").encode())
        variants = ["\t".join(self.variants[i]) for i in rng.permutation(len(self.variants))]
        maf = ["#version 2.4", "\t".join(_MAF_COLUMNS), *variants]
        (folder / "mutations.maf").write_bytes(("\n".join(maf) + "\n").encode())
        (folder / "sequenced.txt").write_bytes(("\n".join(sorted(self.sequenced)) + "\n").encode())

    def _variant(self, gene: str, barcode: str, kind: str, rng: np.random.Generator) -> None:
        start = int(rng.integers(1_000_000, 50_000_000))
        alleles = rng.choice(list("ACGT"), 2, replace=False)
        chromosome = f"chr{1 + sum(gene.encode()) % 22}"
        self.variants.append(
            (gene, "GRCh38", chromosome, str(start), str(start), kind, "SNP", *map(str, alleles), barcode)
        )
        self.tallies[MUTATIONS].accepted += 1


def _expression(rng: np.random.Generator, has_signal: bool) -> np.ndarray:
    """log2 expression of `GENES`: a mean a gene, shared programmes of no meaning, noise, one in a hundred missing."""
    fixed = np.random.default_rng(20260105)  # the same genes behave alike in every cohort
    means = fixed.uniform(3, 11, len(GENES))
    loadings = fixed.normal(0, 0.35, (_N_PROGRAMMES, len(GENES)))
    planted = np.isin(GENES, PLANTED_GENES)
    loadings[:, planted] = 0.0
    noise = rng.normal(0, 1, len(GENES))
    values: np.ndarray = (
        means + rng.normal(size=_N_PROGRAMMES) @ loadings + noise + SHIFT_SD * planted * has_signal
    )
    values[rng.random(len(GENES)) < 0.01] = np.nan
    return values

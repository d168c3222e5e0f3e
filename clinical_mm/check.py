"""Whether a study fits the actual files: what `clinical-mm check` says before anything runs.

The study file is validated by its models; here the files that it names are looked for, and their headers compared with
the columns that are declared. No record is read, and all that is wrong is said at once.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_mm.errors import DeliveryError, EncoderError, StoreError
from clinical_mm.ingest.catalogue import GenomicSource
from clinical_mm.ingest.delimited import read_delimited
from clinical_mm.ingest.delivery import (
    Delivery,
    files_of_pattern,
    find_deliveries,
    is_complete,
)
from clinical_mm.ingest.gene_sets import load_gene_sets
from clinical_mm.ingest.gene_symbols import load_symbols
from clinical_mm.ingest.maf import maf_table
from clinical_mm.ingest.omop import NOTE_COLUMNS, note_header
from clinical_mm.ingest.opening import UnreadableFileError, known_encoding
from clinical_mm.ingest.sites import load_sites
from clinical_mm.ingest.spectra import load_signatures
from clinical_mm.ingest.tabular import is_parquet, place_of
from clinical_mm.ingest.times import TimeReader
from clinical_mm.ingest.variables import columns_of
from clinical_mm.store import Store
from clinical_mm.study.file import StudyFile, load_study_file
from clinical_mm.study.linkage import CrosswalkRule
from clinical_mm.study.problems import Location
from clinical_mm.study.sources import (
    ClinicalSource,
    DicomSource,
    GenomicsMafSource,
    GenomicsMatrixSource,
    GenomicsVcfSource,
    NotesFhirSource,
    NotesFilesSource,
    NotesOmopSource,
    NotesTableSource,
    OutcomesSource,
    Source,
    TableFormat,
)
from clinical_mm.study.tasks import TextModality
from clinical_mm.summary import Check, StageSummary

Problem = tuple[Location, str]


def check_study(path: Path, now_s: float) -> StageSummary:
    """Validate a study file against the files that it names.

    Args:
        path: the study file.
        now_s: seconds since the epoch, to tell which deliveries are complete.

    Returns:
        A summary with one failed check a problem, each naming the line of the study file.

    Raises:
        StudyError: the file itself is wrong; names all that is.
    """
    file = load_study_file(path)
    problems: list[Problem] = []
    deliveries = _deliveries(file, problems)
    counts = _sources(file, deliveries, problems)
    problems += _times_and_patterns(file)
    problems += _sites(file)
    problems += _genomic_tables(file)
    problems += _crosswalks(file, deliveries)
    problems += _weights(file)
    problems += _encoders(file, _store(file, problems))
    quiet_s = file.study.deliveries.quiet_period_s
    n_complete = sum(is_complete(d, quiet_s, now_s) for d in deliveries)
    checks = [
        Check(".".join(map(str, where)), is_passed=False, sentence=f"{path}:{file.line_of(where)}: {text}")
        for where, text in sorted(problems, key=lambda p: file.line_of(p[0]))
    ]
    return StageSummary(
        stage="check",
        facts={
            "study": file.study.study,
            "deliveries": len(deliveries),
            "of these complete": n_complete,
            "tasks": ", ".join(file.study.tasks),
            "problems": len(problems),
        },
        tables={"files by source": counts},
        checks=tuple(checks) or (Check("study", is_passed=True, sentence="it fits the files"),),
    )


def _deliveries(file: StudyFile, problems: list[Problem]) -> list[Delivery]:
    try:
        return find_deliveries(file.study)
    except DeliveryError as error:
        problems.append((("deliveries", "landing"), str(error)))
        return []


def _sources(file: StudyFile, deliveries: list[Delivery], problems: list[Problem]) -> pd.DataFrame:
    rows = []
    for name, source in file.study.sources.items():
        where: Location = ("sources", name)
        found = _files(deliveries, source, "path", where, problems)
        rows.append({"source": name, "kind": source.kind, "files": len(found)})
        tables = found
        if isinstance(source, NotesFilesSource):
            tables = _files(deliveries, source, "manifest", where, problems)
        if isinstance(source, NotesFhirSource) and source.attachments is not None:
            _files(deliveries, source, "attachments", where, problems)
        problems += _once((where, text) for path in tables for text in _missing_columns(name, source, path))
    return pd.DataFrame(rows, columns=["source", "kind", "files"])


def _files(
    deliveries: list[Delivery], source: Source, option: str, where: Location, problems: list[Problem]
) -> list[Path]:
    """The files that match the pattern of an option; that there are none is a problem where the source is required."""
    pattern: str = getattr(source, option)
    found: list[Path] = []
    refused: list[Problem] = []
    for delivery in deliveries:
        try:
            found += files_of_pattern(delivery, pattern)
        except DeliveryError as error:
            refused.append(((*where, option), str(error)))
    problems += _once(refused)
    if deliveries and not found and not refused and source.is_required:
        text = (
            f"no delivery holds a file that matches {pattern!r}: mend the {option}, or say is_required: false"
        )
        problems.append(((*where, option), text))
    return found


def _once(problems: Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


def _missing_columns(name: str, source: Source, path: Path) -> Iterator[str]:
    wanted = _declared_columns(source)
    if not wanted:
        return
    try:
        header = _source_header(name, source, path)
    except UnreadableFileError:
        return  # ingest quarantines such a file and says why
    except DeliveryError as error:
        yield str(error)
        return
    for column in wanted:
        try:
            place_of(column, header, name, wanted)
        except DeliveryError as error:
            yield str(error)


def _source_header(name: str, source: Source, path: Path) -> list[str]:
    if isinstance(source, NotesOmopSource):
        return note_header(path, name)
    if isinstance(source, GenomicsMafSource):
        return _header(name, path, maf_table(source))
    return _header(name, path, source.table)  # type: ignore[union-attr]  # DICOM, FHIR and VCF declare no column


def _header(source: str, path: Path, table: TableFormat) -> list[str]:
    if is_parquet(path):
        try:
            return list(pq.read_schema(path).names)
        except (pa.ArrowInvalid, OSError):
            raise UnreadableFileError("unreadable_file", "the file is no Parquet") from None
    return next(read_delimited(path, table, source)).fields


def _declared_columns(source: Source) -> list[str]:
    wanted: list[str | None] = []
    match source:
        case NotesTableSource() | NotesFilesSource():
            wanted = [source.patient_id, *_own_columns(source), source.note_id, source.available_time]
            wanted += [source.available_time_fallback, source.event_time, source.note_type, source.status]
        case NotesOmopSource():
            wanted = [*NOTE_COLUMNS]
        case ClinicalSource() | OutcomesSource():
            time = source.available_time if isinstance(source, ClinicalSource) else source.index_time
            wanted = [source.patient_id, time]
            if isinstance(source, ClinicalSource) and source.layout == "long":
                wanted += [source.variable_column, source.value_column, source.unit_column]
            else:
                wanted += columns_of(source.variables).values()
        case GenomicsMafSource():
            wanted = [source.sample_id, source.gene, source.classification]
            wanted += [source.protein_change] if source.hotspots is not None else []
            if source.spectrum is not None:
                wanted += [source.spectrum.reference, source.spectrum.alternate, source.spectrum.context]
        case GenomicsMatrixSource():
            wanted = [
                source.sample_id,
                source.patient_id,
                source.available_time,
                source.feature,
                source.value,
            ]
        case _:
            pass  # DICOM, FHIR and VCF name their elements themselves
    return list(dict.fromkeys(column for column in wanted if column is not None))


def _own_columns(source: NotesTableSource | NotesFilesSource) -> list[str | None]:
    return [source.text] if isinstance(source, NotesTableSource) else [source.file, source.content_type]


def _times_and_patterns(file: StudyFile) -> Iterator[Problem]:
    """Time zones and encodings that there are none of, and features by a regular expression that is none."""
    for name, source in file.study.sources.items():
        if isinstance(source, NotesFilesSource) and known_encoding(source.encoding) is None:
            yield (("sources", name, "encoding"), f"{source.encoding!r} is no encoding that Python knows")
        if not isinstance(source, DicomSource | GenomicsVcfSource):
            try:
                TimeReader(source.time, name)
            except DeliveryError as error:
                yield (("sources", name, "time", "timezone"), str(error))
        if isinstance(source, GenomicsMatrixSource):
            try:
                re.compile(source.features)
            except re.error as error:
                yield (("sources", name, "features"), f"features is no regular expression: {error}")


def _sites(file: StudyFile) -> Iterator[Problem]:
    """Tables of sites that are not there, or hold what is no site."""
    for name, source in file.study.sources.items():
        if isinstance(source, GenomicsVcfSource) and source.sites is not None:
            try:
                load_sites(name, source.sites, file.study.resolve_path(source.sites.path))
            except DeliveryError as error:
                yield (("sources", name, "sites", "path"), str(error))


def _genomic_tables(file: StudyFile) -> Iterator[Problem]:
    """Tables of gene symbols and signatures, and gene sets, that are not there, or are none."""
    for name, source in file.study.sources.items():
        if not isinstance(source, GenomicSource):
            continue
        named: list[tuple[str, str, Callable[[Path], object]]] = []
        if source.symbols.path is not None:
            named.append(("symbols", source.symbols.path, partial(load_symbols, name)))
        if isinstance(source, GenomicsMatrixSource) and source.gene_sets is not None:
            path = source.gene_sets.path
            named.append(("gene_sets", path, partial(load_gene_sets, name, path)))
        if (
            isinstance(source, GenomicsMafSource)
            and source.spectrum is not None
            and source.spectrum.signatures
        ):
            path = source.spectrum.signatures
            named.append(("spectrum", path, partial(load_signatures, name, path)))
        for option, path, load in named:
            try:
                load(file.study.resolve_path(path))
            except DeliveryError as error:
                yield (("sources", name, option), str(error))


def _crosswalks(file: StudyFile, deliveries: list[Delivery]) -> Iterator[Problem]:
    for place, rule in enumerate(file.study.linkage.rules):
        if not isinstance(rule, CrosswalkRule):
            continue
        where: Location = ("linkage", "rules", place)
        paths: list[Path] = []
        if rule.within_delivery:
            try:
                paths = [p for delivery in deliveries for p in files_of_pattern(delivery, rule.path)]
            except DeliveryError as error:
                yield (where, str(error))
                continue
        elif (beside := file.study.resolve_path(rule.path)).is_file():
            paths = [beside]
        if not paths and (deliveries or not rule.within_delivery):
            yield (where, f"there is no crosswalk {rule.path!r}")
        for path in paths:
            try:
                header = _header(f"crosswalk {rule.path}", path, rule.table)
                for column in (rule.source_id, rule.patient_id):
                    place_of(column, header, f"crosswalk {rule.path}", (rule.source_id, rule.patient_id))
            except DeliveryError as error:
                yield (where, str(error))


def _encoders(file: StudyFile, store: Store | None) -> Iterator[Problem]:
    study = file.study
    wanted: list[tuple[Location, TextModality]] = [
        (("tasks", name, "modalities", "text", "encoder"), task.modalities.text)
        for name, task in study.tasks.items()
        if task.modalities.text is not None and task.modalities.text.encoder != "pretrained"
    ]
    if study.pretrain_text is not None and study.pretrain_text.start_from is not None:
        settings = TextModality(encoder=study.pretrain_text.start_from)
        wanted.append((("pretrain_text", "start_from"), settings))
    if store is None or not wanted:
        return
    from clinical_mm.features.encoder import load_tokenizer, resolve_encoder  # noqa: PLC0415 - imports transformers

    for where, settings in wanted:
        try:
            load_tokenizer(resolve_encoder(study, store, settings))
        except EncoderError as error:
            yield (where, str(error))


def _weights(file: StudyFile) -> Iterator[Problem]:
    for name, task in file.study.tasks.items():
        image = task.modalities.image
        if (
            image is not None
            and image.weights is not None
            and not file.study.resolve_path(image.weights).is_file()
        ):
            yield (("tasks", name, "modalities", "image", "weights"), f"there is no file {image.weights!r}")


def _store(file: StudyFile, problems: list[Problem]) -> Store | None:
    try:
        return Store(file.study.store_path)
    except StoreError as error:
        problems.append((("store",), str(error)))
        return None

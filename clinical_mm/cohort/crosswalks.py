"""Crosswalks: tables that say which patient an id stands for. How their answers are used is for `linkage`."""

import difflib
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_mm.errors import CohortError
from clinical_mm.store import Store, file_hash
from clinical_mm.study.linkage import CrosswalkRule
from clinical_mm.study.root import Study

_TAB_ENDINGS = {".tsv", ".txt", ".tab"}
_COMPRESSIONS = {".gz", ".bz2", ".zip", ".xz", ".zst"}
_UNREADABLE = (
    *(pd.errors.ParserWarning, ValueError, LookupError, OSError),  # LookupError: no such encoding
    *(EOFError, zipfile.BadZipFile, zlib.error),  # compressed, and cut off or damaged
)


@dataclass(frozen=True)
class Crosswalk:
    """What a crosswalk answers.

    Attributes:
        answers: patient id by source id, for ids with one answer.
        ambiguous: ids for which one file, or the files of one delivery, name several patients.
        n_corrected: ids to which a later delivery gives another patient than an earlier one.
        n_incomplete: rows without a source id or without a patient id.
    """

    answers: dict[str, str]
    ambiguous: frozenset[str]
    n_corrected: int
    n_incomplete: int


def crosswalk_files(study: Study, store: Store, rule: CrosswalkRule, place: int) -> dict[str, list[Path]]:
    """The files of a crosswalk by delivery, the earlier first; one beside the study file stands under "".

    Args:
        study: the study.
        store: its deliveries count once anything of them was ingested.
        rule: the rule.
        place: its place among the rules, from 1, for the error.

    Raises:
        CohortError: there is no such file, or an ingested delivery is no longer where it landed.
    """
    if not rule.within_delivery:
        path = study.resolve_path(rule.path)
        if not path.is_file():
            raise CohortError(f"linkage rule {place}: there is no crosswalk {path}")
        return {"": [path]}
    found: dict[str, list[Path]] = {}
    for name in store.delivery_names():
        folder = study.landing_path / name
        if not folder.is_dir():
            raise CohortError(
                f"linkage rule {place}: delivery {name} was ingested and is no longer in {study.landing_path}, "
                "so its crosswalk cannot be read: put it back"
            )
        try:
            inside = [p for p in sorted(folder.glob(rule.path)) if p.is_file() and _lies_in(p, folder)]
        except (ValueError, NotImplementedError):
            raise CohortError(
                f"linkage rule {place}: {rule.path!r} is no glob pattern relative to a delivery: mend the path"
            ) from None
        if inside:
            found[name] = inside
    if not found:
        raise CohortError(f"linkage rule {place}: no delivery holds a crosswalk that matches {rule.path!r}")
    return found


def crosswalk_hashes(files: dict[str, list[Path]]) -> dict[str, list[str]]:
    """Content hashes of the files of a crosswalk by delivery."""
    return {delivery: [file_hash(p) for p in paths] for delivery, paths in files.items()}


def read_crosswalk(rule: CrosswalkRule, files: dict[str, list[Path]], place: int) -> Crosswalk:
    """Read the files of a crosswalk; what a later delivery says of an id replaces what an earlier one said.

    Raises:
        CohortError: a file cannot be read, or lacks a column.
    """
    answers: dict[str, str | None] = {}  # None: ambiguous
    n_corrected = n_incomplete = 0
    for paths in files.values():
        pairs = pd.concat([_read(rule, path, place) for path in paths], ignore_index=True)
        is_complete = (pairs["source_id"] != "") & (pairs["patient_id"] != "")
        n_incomplete += int((~is_complete).sum())
        pairs = pairs[is_complete].drop_duplicates()
        is_repeated = pairs["source_id"].duplicated(keep=False)
        said: dict[str, str | None] = dict.fromkeys(pairs.loc[is_repeated, "source_id"])
        said.update(pairs[~is_repeated].itertuples(index=False, name=None))
        n_corrected += sum(answers[i] != patient for i, patient in said.items() if i in answers)
        answers.update(said)
    return Crosswalk(
        answers={i: patient for i, patient in answers.items() if patient is not None},
        ambiguous=frozenset(i for i, patient in answers.items() if patient is None),
        n_corrected=n_corrected,
        n_incomplete=n_incomplete,
    )


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether the file itself, links followed, lies in the folder."""
    return path.resolve().is_relative_to(folder.resolve())


def _read(rule: CrosswalkRule, path: Path, place: int) -> pd.DataFrame:
    """Columns source_id and patient_id, as text without blanks around it; "" where the cell is empty."""
    columns = [rule.source_id, rule.patient_id]
    where = f"linkage rule {place}: the crosswalk {path.name}"
    frame = _parquet(path, columns, where) if path.suffix == ".parquet" else _delimited(rule, path, where)
    pairs = pd.DataFrame({"source_id": frame[columns[0]], "patient_id": frame[columns[1]]})
    return pairs.fillna("").apply(lambda column: column.str.strip())


def _delimited(rule: CrosswalkRule, path: Path, where: str) -> pd.DataFrame:
    endings = [s for s in path.suffixes if s not in _COMPRESSIONS]
    is_tabbed = bool(endings) and endings[-1] in _TAB_ENDINGS
    delimiter = rule.table.delimiter or ("\t" if is_tabbed else ",")
    try:
        with warnings.catch_warnings():
            # Rows longer than the header would be cut, and the ids read from the wrong column.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=delimiter,
                encoding=rule.table.encoding,
                comment=rule.table.comment,
                dtype=str,
                keep_default_na=False,
                index_col=False,
            )
    except UnicodeDecodeError:
        raise CohortError(
            f"{where} is not written in {rule.table.encoding}: name its encoding under table"
        ) from None
    except _UNREADABLE as error:
        raise CohortError(f"{where} cannot be read as a table ({type(error).__name__})") from None
    _require(list(frame.columns), [rule.source_id, rule.patient_id], where)
    return frame


def _parquet(path: Path, columns: list[str], where: str) -> pd.DataFrame:
    try:
        schema = pq.read_schema(path)
        _require(schema.names, columns, where)
        arrow = pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise CohortError(f"{where} cannot be read as Parquet ({type(error).__name__})") from None
    for name in columns:
        kind = arrow.schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
            raise CohortError(f"{where} holds its column {name!r} as {kind}: ids are text; write it as text")
    return arrow.cast(pa.schema([pa.field(name, pa.string()) for name in columns])).to_pandas()


def _require(found: list[str], wanted: list[str], where: str) -> None:
    for name in wanted:
        if name not in found:
            nearest = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(found)}"
            raise CohortError(f"{where} has no column {name!r}: {hint}")

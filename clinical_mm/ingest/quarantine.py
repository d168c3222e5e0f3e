"""The quarantine as a person works it off: what was not accepted, over all deliveries, and what is known of it.

The ledgers alone are read, never a table that holds data of patients, and of a file its size. Reading a delivery
again does not belong here.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clinical_mm import tables
from clinical_mm.errors import DeliveryError
from clinical_mm.progress import track
from clinical_mm.store import Store, current, write_file
from clinical_mm.study.root import Study
from clinical_mm.study.sources import STAGES
from clinical_mm.summary import StageSummary

DISPOSITIONS = ("quarantined", "duplicate", "superseded")
"""What can become of a record that is not accepted."""

COLUMNS = ("delivery", "stage", "source", "locator", "disposition", "reason_code", "sentence")
"""An entry: `tables.RECORDS`, and the ingest stage that wrote it."""

_SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])
_FORMULA_STARTS = ("=", "+", "-", "@")
_ESCAPED_BYTE = re.compile(rb"\\x([0-9a-f]{2})")


def not_accepted(
    store: Store,
    *,
    deliveries: Collection[str] | None = None,
    sources: Collection[str] | None = None,
    reasons: Collection[str] | None = None,
    dispositions: Collection[str] = ("quarantined",),
) -> pa.Table:
    """The entries of the current ledgers, of those deliveries, sources and reasons; default: of all.

    Args:
        store: where the deliveries were ingested to.
        deliveries: their names; the ledgers of others are not read.
        sources: their names.
        reasons: reason codes.
        dispositions: of `DISPOSITIONS`.

    Returns:
        `COLUMNS`, all text, by delivery, then stage, then as the stage came upon them. An entry is a record, or
        a part of one (a cell) that could not be used.

    Raises:
        TableError: a ledger is missing, or was written by another version.
    """
    folders = [
        (stage, path)
        for delivery in store.delivery_names()
        if not deliveries or delivery in deliveries
        for stage in STAGES
        if (path := current(store.delivery(delivery, stage))) is not None
    ]
    chosen = {"disposition": dispositions, "source": sources, "reason_code": reasons}
    parts = [_SCHEMA.empty_table()]
    for stage, path in track(folders, "ledgers", total=len(folders)):
        part = tables.read_arrow(tables.RECORDS, path)
        for column, values in chosen.items():
            if values:
                part = part.filter(pc.is_in(part[column], pa.array(list(values), pa.string())))
        part = part.append_column("stage", pa.repeat(stage, part.num_rows))
        parts.append(part.select(COLUMNS).cast(_SCHEMA))
    return pa.concat_tables(parts)


def listing(entries: pa.Table, limit: int) -> StageSummary:
    """What an operator wants to see of the entries.

    Args:
        entries: as `not_accepted` returns them.
        limit: so many of them are listed.

    Returns:
        Counts by delivery, source and reason, the first entries, and how many more there are; their fate too,
        where any is not quarantined.
    """
    n_listed = min(limit, entries.num_rows)
    facts: dict[str, str | int | float] = {"entries": entries.num_rows, "listed": n_listed}
    if entries.num_rows > n_listed:
        facts["more"] = entries.num_rows - n_listed
    shown = {}
    left_out = ["stage"]  # the source says it
    if set(entries["disposition"].unique().to_pylist()) <= {"quarantined"}:
        left_out.append("disposition")
    if entries.num_rows:
        by = [c for c in ("delivery", "source", "disposition", "reason_code") if c not in left_out]
        counts = entries.group_by(by).aggregate([([], "count_all")])
        counts = counts.sort_by([(column, "ascending") for column in by])
        shown["by delivery, source and reason"] = tables.to_pandas(counts.rename_columns([*by, "n"]))
    if n_listed:
        first = tables.to_pandas(entries.slice(0, n_listed).drop_columns(left_out))
        first["locator"] = [printable(locator) for locator in first["locator"]]
        shown["entries"] = first
    return StageSummary(stage="quarantine", facts=facts, tables=shown)


def write_csv(entries: pa.Table, path: Path) -> int:
    """Write entries as CSV in UTF-8, one a row under the names of `COLUMNS`; a file that is there is replaced.

    Files are named by whoever delivers them. What is not printable, such as a line end, is written as `show` takes
    it, with an escape; a cell that begins with `=`, `+`, `-` or `@` is run by spreadsheets, and gets a `'` before it
    (OWASP, CSV injection).

    Returns:
        How many cells got a `'`.
    """
    frame = tables.to_pandas(entries)
    n_changed = 0
    for column in frame.columns:
        frame[column] = frame[column].map(printable)
        is_formula = frame[column].str.startswith(_FORMULA_STARTS)
        n_changed += int(is_formula.sum())
        frame[column] = frame[column].where(~is_formula, "'" + frame[column])
    write_file(path, frame.to_csv(index=False, lineterminator="\n").encode())
    return n_changed


def describe(
    study: Study, store: Store, locator: str, deliveries: Collection[str] | None = None
) -> list[StageSummary]:
    """All that is on record of one record: its own entry, those of its parts, and of a file those of its rows.

    Args:
        study: says where deliveries lie.
        store: where they were ingested to.
        locator: as the ledger has it, or as it was printed.
        deliveries: their names; default: all.

    Returns:
        One summary an entry: its fate, the reason, and where its file lies; of what is in the file, nothing.

    Raises:
        DeliveryError: nothing is on record of it.
    """
    entries = not_accepted(store, deliveries=deliveries, dispositions=DISPOSITIONS)
    found = entries.filter(_is_of(entries["locator"], locator)).to_pylist()
    if not found and printable(locator) == locator and "\\" in locator:
        printed = [printable(each) == locator for each in entries["locator"].to_pylist()]
        found = entries.filter(pa.array(printed, pa.bool_())).to_pylist()
    if not found:
        raise DeliveryError(
            "nothing is on record of this locator: the record was accepted, or no delivery that was searched holds "
            "it; `clinical-mm quarantine list --all` lists every locator on record"
        )
    return [
        StageSummary(
            stage=f"entry {number} of {len(found)}",
            facts={
                **{name: entry[name] for name in ("delivery", "stage", "source")},
                "locator": printable(entry["locator"]),
                **{name: entry[name] for name in ("disposition", "reason_code", "sentence")},
                **_file_facts(study.landing_path / entry["delivery"], entry["locator"]),
            },
        )
        for number, entry in enumerate(found, start=1)
    ]


def printable(text: str) -> str:
    """The text with an escape for whatever would steer a terminal: files are named by whoever delivers them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_of(locators: pa.ChunkedArray, locator: str) -> pa.ChunkedArray:
    is_of = pc.or_(pc.equal(locators, locator), pc.starts_with(locators, f"{locator}#"))
    if "#" in locator:  # a row: its cells are "<row> <column>"
        is_of = pc.or_(is_of, pc.starts_with(locators, f"{locator} "))
    return is_of


def _file_facts(delivery: Path, locator: str) -> dict[str, str | int | float]:
    path = _file_of(delivery, locator)
    if path is None:
        place = delivery / locator.partition("#")[0]
        return {"file": printable(str(place)), "file stands": "no: it was moved, renamed or removed"}
    return {"file": printable(str(path)), "file stands": "yes", "size_bytes": path.stat().st_size}


def _file_of(delivery: Path, locator: str) -> Path | None:
    """The file that a locator begins with; its own name may hold a `#`, and bytes that are no text."""
    parts = locator.split("#")
    for n in range(len(parts), 0, -1):
        name = "#".join(parts[:n])
        raw = _ESCAPED_BYTE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
        for path in (delivery / name, delivery / os.fsdecode(raw)):
            if path.is_file():
                return path
    return None

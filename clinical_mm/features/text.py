"""The text modality: a patient's notes in reading order, as windows of tokens, and back to the characters.

Windows are filled in reading order, which is the cohort's order of preference (by default the latest note first): where
a patient has more than `max_windows`, those that are preferred least are left out, and counted. The snapshot holds the
notes' text and tokens as two flat files, so that any patient is read without the others. How tokens are made stands in
`windows`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from clinical_mm import tables
from clinical_mm.cohort.current import current_rows, snapshots
from clinical_mm.errors import StoreError
from clinical_mm.features.items import joined, named_rows
from clinical_mm.features.left_out import LeftOut
from clinical_mm.features.schemas import NOTES_READ, TEXT_WINDOWS
from clinical_mm.features.windows import Tokeniser, WindowPlan
from clinical_mm.progress import track
from clinical_mm.store import Store

_TEXT_FILE = "notes.utf8"
_TOKEN_FILE = "tokens.int32"
_BATCH_ROWS = 256
"""Notes in memory at once."""


@dataclass(frozen=True)
class Note:
    """A note that the model may read.

    Attributes:
        source: its source.
        item_id: its note_id.
        note_type: as the source calls it.
        available_time: when it could be read; None where it is timeless.
        text: all of it.
    """

    source: str
    item_id: str
    note_type: str | None
    available_time: pd.Timestamp | None
    text: str


@dataclass(frozen=True, eq=False)
class TextWindow:
    """A window of one note, special tokens included.

    Attributes:
        source: the source of the note.
        item_id: the note.
        input_ids: [l] int64 token ids.
        starts: [l] int64 first character of each token in the note's text; −1 for special tokens.
        ends: [l] int64 one past its last character; −1 for special tokens.
    """

    source: str
    item_id: str
    input_ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextCounts:
    """What was made: notes and windows that the model reads, and the tokens of these windows."""

    n_notes: int
    n_windows: int
    n_tokens: int


def build_text(
    store: Store,
    items: pd.DataFrame,
    directory: Path,
    *,
    tokeniser: Tokeniser,
    plan: WindowPlan,
    max_windows: int,
    left_out: LeftOut,
) -> TextCounts:
    """Tokenise the used notes and lay out every patient's windows.

    Args:
        store: where the notes were ingested to.
        items: used items of the text modality, in reading order.
        directory: the snapshot that is being written.
        tokeniser: of the encoder.
        plan: the windows.
        max_windows: windows a patient, at most.
        left_out: takes what is not read.

    Raises:
        CohortError: a note is no longer the current one.
    """
    columns = ["source", "delivery", "note_id", "note_type", "available_time"]
    rows = current_rows(store, tables.NOTES, "notes", columns)
    notes = joined(items.drop(columns="available_time"), rows, rows["note_id"])
    places = _write_notes(store, notes, directory, tokeniser)
    read, windows = _lay_out(notes, places, plan, max_windows, left_out)
    tables.write_table(NOTES_READ, read, directory)
    tables.write_table(TEXT_WINDOWS, windows, directory)
    n_tokens = int(windows["n_tokens"].sum()) + len(windows) * (len(plan.prefix) + len(plan.suffix))
    return TextCounts(int(windows.groupby(["patient_id", "note_place"]).ngroups), len(windows), n_tokens)


_Place = tuple[int, int, int, int]
"""First byte, bytes, first token, tokens of a note in the flat files."""


def _write_notes(
    store: Store, notes: pd.DataFrame, directory: Path, tokeniser: Tokeniser
) -> dict[tuple[str, str], _Place]:
    """Write text and tokens of the notes, a batch of a delivery's rows at a time."""
    places: dict[tuple[str, str], _Place] = {}
    by_delivery = {
        str(d): set(zip(g["source"], g["item_id"], strict=True)) for d, g in notes.groupby("delivery")
    }
    n_bytes = n_tokens = 0
    with (directory / _TEXT_FILE).open("wb") as text_file, (directory / _TOKEN_FILE).open("wb") as token_file:
        for source, note_id, text in track(_texts(store, by_delivery), "tokenising notes", len(notes)):
            data, tokens = text.encode(), tokeniser(text)
            places[source, note_id] = (n_bytes, len(data), n_tokens, len(tokens))
            text_file.write(data)
            token_file.write(np.ascontiguousarray(tokens).data)
            n_bytes, n_tokens = n_bytes + len(data), n_tokens + len(tokens)
    return places


def _texts(store: Store, wanted: Mapping[str, set[tuple[str, str]]]) -> Iterator[tuple[str, str, str]]:
    """(source, note_id, text) of the wanted notes of each delivery, without holding a delivery in memory."""
    for delivery, path in snapshots(store, "notes").items():
        if delivery not in wanted:
            continue
        file = pq.ParquetFile(path / f"{tables.NOTES.name}.parquet")
        for batch in file.iter_batches(_BATCH_ROWS, columns=["source", "note_id", "text"]):
            for row in batch.to_pylist():
                if (row["source"], row["note_id"]) in wanted[delivery]:
                    yield row["source"], row["note_id"], row["text"]


def _lay_out(
    notes: pd.DataFrame,
    places: Mapping[tuple[str, str], _Place],
    plan: WindowPlan,
    max_windows: int,
    left_out: LeftOut,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    read: list[tuple[object, ...]] = []
    windows: list[tuple[object, ...]] = []
    for patient_id, of_patient in notes.groupby("patient_id", sort=True):
        patient, n_windows = str(patient_id), 0
        for note_place, note in enumerate(named_rows(of_patient)):
            first_byte, n_bytes, first_token, n_tokens = places[note.source, note.item_id]
            own = (note.source, note.item_id, note.note_type, note.available_time)
            read.append((patient, note_place, *own, first_byte, n_bytes, first_token, n_tokens))
            cuts = plan.cut(n_tokens)
            taken = cuts[: max_windows - n_windows]
            for first, n in taken:
                windows.append((patient, n_windows, note_place, first_token + first, n))
                n_windows += 1
            left_out.add(patient, "text", "no_tokens", int(not cuts))
            left_out.add(patient, "text", "windows_over_max", len(cuts) - len(taken))
            left_out.add(patient, "text", "notes_over_max", int(bool(cuts) and not taken))
    frame = pd.DataFrame(read, columns=NOTES_READ.columns)
    frame["available_time"] = frame["available_time"].astype("datetime64[us]")
    return frame, pd.DataFrame(windows, columns=TEXT_WINDOWS.columns)


class TextReader:
    """Notes and windows of patients out of a snapshot, one patient at a time."""

    def __init__(self, directory: Path, prefix: tuple[int, ...], suffix: tuple[int, ...]) -> None:
        # int64 of the special tokens makes int64 of a window.
        self._prefix, self._suffix = (np.array(ids, dtype=np.int64) for ids in (prefix, suffix))
        self._before, self._after = (np.full(len(ids), -1, dtype=np.int64) for ids in (prefix, suffix))
        self._notes = tables.read_table(NOTES_READ, directory)
        windows = tables.read_table(TEXT_WINDOWS, directory)
        # Lists, since an epoch looks up single values, for which pandas takes longer than the tokens.
        self._sources, self._item_ids = self._notes["source"].tolist(), self._notes["item_id"].tolist()
        self._note_places, self._first_tokens, self._n_tokens = (
            windows[name].tolist() for name in ("note_place", "first_token", "n_tokens")
        )
        self._rows_of_notes = self._notes.groupby("patient_id", sort=False).indices
        self._rows_of_windows = windows.groupby("patient_id", sort=False).indices
        self._text = _mapped(directory / _TEXT_FILE, np.uint8)
        # A plain view of the map: a memmap's own class makes each slice an object of several microseconds.
        self._tokens = np.asarray(_mapped(directory / _TOKEN_FILE, np.int32)).reshape(-1, 3)

    def notes(self, patient_id: str) -> list[Note]:
        """The patient's notes in reading order, those that no window reaches included."""
        if patient_id not in self._rows_of_notes:
            return []
        return [
            Note(
                source=row.source,
                item_id=row.item_id,
                note_type=row.note_type,
                available_time=None if pd.isna(row.available_time) else row.available_time,
                text=self._text[row.first_byte : row.first_byte + row.n_bytes].tobytes().decode(),
            )
            for row in named_rows(self._notes.iloc[self._rows_of_notes[patient_id]])
        ]

    def windows(self, patient_id: str) -> list[TextWindow]:
        """The windows that the model reads, in order."""
        of_notes = self._rows_of_notes.get(patient_id, ())
        found = []
        for row in self._rows_of_windows.get(patient_id, ()):
            note = of_notes[self._note_places[row]]
            first, n = self._first_tokens[row], self._n_tokens[row]
            tokens = self._tokens[first : first + n]
            found.append(
                TextWindow(
                    source=self._sources[note],
                    item_id=self._item_ids[note],
                    input_ids=np.concatenate((self._prefix, tokens[:, 0], self._suffix)),
                    starts=np.concatenate((self._before, tokens[:, 1], self._after)),
                    ends=np.concatenate((self._before, tokens[:, 2], self._after)),
                )
            )
        return found

    def window_ids(self, patient_id: str) -> list[npt.NDArray[np.int64]]:
        """The token ids of `windows` alone, which is all that an epoch reads."""
        found = []
        for row in self._rows_of_windows.get(patient_id, ()):
            first = self._first_tokens[row]
            own = self._tokens[first : first + self._n_tokens[row], 0]
            found.append(np.concatenate((self._prefix, own, self._suffix)))
        return found


def _mapped(path: Path, dtype: type) -> npt.NDArray[Any]:
    if not path.is_file():
        raise StoreError(f"{path.name} is missing in the features: run `clinical-mm train` again")
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)

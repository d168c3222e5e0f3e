"""Explaining patients: their features in, explanations out, by the member of the model that never saw them.

What attribution is stands in `attribution` and `shapley`; what a reader is shown of it is made in `words`, `grids` and
`covariates`. Which patients to explain, and where it is kept, is for `explain`.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from clinical_mm.errors import ModelError
from clinical_mm.explain.attribution import attribute, frozen
from clinical_mm.explain.averaging import averaged
from clinical_mm.explain.baselines import NeutralText, empty_baseline
from clinical_mm.explain.covariates import FeatureContribution, feature_contributions
from clinical_mm.explain.explanation import Explanation, ModalityContribution
from clinical_mm.explain.grids import ImageAttribution, on_grid
from clinical_mm.explain.shapley import modality_shapley
from clinical_mm.explain.words import PieceAttributions, Word, attribute_words
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.study.tasks import ExplainSettings, Outcome
from clinical_mm.training.members import Member

_MASKS = {
    "text": ("text_attention_mask", "text_window_mask"),
    "image": ("image_mask",),
    "genomics": ("genomics_observed",),
    "clinical": ("clinical_observed",),
}
_INPUTS = {"text": "text_input_ids", "image": "image", "genomics": "genomics", "clinical": "clinical"}
_ATTRIBUTED = {**_INPUTS, "text": "text_embeddings"}


def explain_patients(
    members: Sequence[Member],
    features: TaskFeatures,
    ids: Sequence[str],
    settings: ExplainSettings,
    neutral_text: NeutralText | None,
    *,
    splits: pd.DataFrame,
    target: int | None = None,
) -> Iterator[Explanation]:
    """Explain patients one by one.

    A patient whom a fold tested is explained by that fold's member; one whom no fold knows by the mean of all
    members. Models stay on the device on which they are.

    Args:
        members: of one model version.
        features: of the task.
        ids: the patients.
        settings: steps and the completeness to reach.
        neutral_text: of the encoder's tokenizer; needed where the task reads text.
        splits: `tables.SPLITS` as the version sees the patients.
        target: the output to explain; default: the only one, or the class that is predicted.

    Raises:
        ModelError: a patient was used in training by every member, or has no modality.
    """
    for patient_id in ids:
        cases = [
            _Case(member, features, patient_id, neutral_text)
            for member in unseen_members(members, splits, patient_id)
        ]
        logits = np.array([case.logits for case in cases])
        chosen = int(logits.mean(axis=0).argmax()) if target is None else target
        yield averaged([case.explain(chosen, settings) for case in cases])


def unseen_members(members: Sequence[Member], splits: pd.DataFrame, patient_id: str) -> list[Member]:
    """The members that may speak about a patient: that of the fold that tested them, or all where none knows them.

    Raises:
        ModelError: every member was trained, or stopped, on the patient.
    """
    known = splits[splits["patient_id"] == patient_id]
    if known.empty:
        return list(members)
    tested = set(known.loc[known["split"] == "test", "fold"])
    found = [member for member in members if member.fold in tested]
    if not found:
        raise ModelError(
            "a patient whom the model was trained on cannot be explained as held out: ask for patients of the test "
            "split, or for those whose outcome is not yet known"
        )
    return found


def has_input(member: Member, features: TaskFeatures, patient_id: str) -> bool:
    """Whether a member can read anything of a patient: as the dataset decides it, without reading images."""
    there = dict(zip(features.modalities, features.present(patient_id).tolist(), strict=True))
    for name in ("genomics", "clinical"):
        if there.get(name):
            _, observed = getattr(member.statistics, f"standardise_{name}")(features, [patient_id])
            there[name] = bool(observed.any())
    return any(there.values())


def target_name(outcome: Outcome, target: int) -> str:
    """What an output says, for a reader."""
    if outcome.kind == "multiclass":
        return outcome.classes[target]
    if outcome.kind == "survival":
        return f"hazard of {outcome.event}"
    return f"{outcome.variable} = {outcome.positive}"


class _Case:
    """One patient before one member."""

    def __init__(
        self, member: Member, features: TaskFeatures, patient_id: str, neutral_text: NeutralText | None
    ) -> None:
        self._member, self._model = member, member.model
        self._features, self._patient_id, self._neutral = features, patient_id, neutral_text
        device = next(self._model.parameters()).device
        sample = PatientDataset(features, member.statistics, [patient_id])[0]
        self._batch: dict[str, Tensor] = {k: v.to(device) for k, v in collate([sample]).items()}
        if "image" in self._batch:
            self._batch["image"] = self._batch[
                "image"
            ].float()  # gradients of steps that float16 would round away
        present = self._batch["present"][0].tolist()
        self._present = [m for m, there in zip(features.modalities, present, strict=True) if there]
        names = [n for m in self._present for n in (_INPUTS[m], *_MASKS[m])] + ["present"]
        self._given = {name: self._batch[name] for name in names}
        if not self._present:
            raise ModelError("a patient without any modality cannot be explained: see the task's features")
        with frozen(self._model), torch.no_grad():
            self.logits: list[float] = self._model(**self._given).logits[0].double().cpu().tolist()

    def explain(self, target: int, settings: ExplainSettings) -> Explanation:
        inputs, baselines = self._path()
        masks = [name for m in self._present for name in _MASKS[m]]
        attributions, completeness = attribute(
            self._model,
            inputs,
            baselines,
            {name: self._batch[name] for name in (*masks, "present")},
            target=target,
            steps=settings.steps,
            max_steps=settings.max_steps,
            tolerance=settings.completeness,
            batch_size=settings.batch_size,
        )
        by_modality = {m: attributions[_ATTRIBUTED[m]][0].double().numpy() for m in self._present}
        words, remainder = self._words(by_modality.get("text"))
        return Explanation(
            patient_id=self._patient_id,
            fold=self._member.fold,
            target=target,
            target_name=target_name(self._features.task.outcome, target),
            logits=tuple(self.logits),
            completeness=completeness,
            contributions=self._contributions(by_modality, target),
            words=words,
            features=(
                *self._tabular("genomics", by_modality.get("genomics")),
                *self._tabular("clinical", by_modality.get("clinical")),
            ),
            images=self._images(by_modality.get("image")),
            text_remainder=remainder,
        )

    def _path(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        inputs: dict[str, Tensor] = {}
        baselines: dict[str, Tensor] = {}
        for modality in self._present:
            name, value = _ATTRIBUTED[modality], self._batch[_INPUTS[modality]]
            if modality == "text":
                if self._neutral is None:
                    raise ModelError("explaining text needs the encoder's tokenizer")
                with torch.no_grad():
                    inputs[name] = self._model.embed_text(value)
                    baselines[name] = self._model.embed_text(self._neutral.input_ids(value))
            else:
                inputs[name], baselines[name] = value, empty_baseline(value)
        return inputs, baselines

    def _contributions(
        self, by_modality: Mapping[str, np.ndarray], target: int
    ) -> tuple[ModalityContribution, ...]:
        shapley = modality_shapley(self._model, self._given, target)
        return tuple(
            ModalityContribution(
                modality,
                modality in by_modality,
                float(by_modality[modality].sum()) if modality in by_modality else 0.0,
                shapley.get(place, 0.0),
            )
            for place, modality in enumerate(self._features.modalities)
        )

    def _words(self, attributions: np.ndarray | None) -> tuple[tuple[Word, ...], float]:
        """Attributions [w, l, e] to words; a window's pieces are the first of its row."""
        if attributions is None:
            return (), 0.0
        pieces = attributions.sum(axis=-1)
        windows = self._features.windows(self._patient_id)
        if len(windows) != len(pieces):
            raise ModelError(
                f"the text of a patient has {len(windows)} windows, the model read {len(pieces)}: build the features "
                "again"
            )
        placed = [
            PieceAttributions(
                window.source,
                window.item_id,
                np.asarray(window.starts, dtype=np.int64),
                np.asarray(window.ends, dtype=np.int64),
                row[: len(window.input_ids)],
            )
            for window, row in zip(windows, pieces, strict=True)
        ]
        notes = [(note.source, note.item_id, note.text) for note in self._features.notes(self._patient_id)]
        return attribute_words(notes, placed)

    def _images(self, attributions: np.ndarray | None) -> tuple[ImageAttribution, ...]:
        if attributions is None:
            return ()
        return tuple(
            ImageAttribution(
                image.source,
                image.item_id,
                place,
                on_grid(values).astype(np.float32),
                np.asarray(image.grid_to_volume, dtype=np.float64),
                None if image.grid_affine is None else np.asarray(image.grid_affine, dtype=np.float64),
            )
            for place, (image, values) in enumerate(
                zip(self._features.images(self._patient_id), attributions, strict=True)
            )
        )

    def _tabular(self, modality: str, attributions: np.ndarray | None) -> tuple[FeatureContribution, ...]:
        if attributions is None:
            return ()
        statistics = self._member.statistics
        frame = self._features.genomics() if modality == "genomics" else self._features.clinical()
        own = frame.loc[self._patient_id]
        values = dict(zip(map(str, own.index), own.to_numpy(dtype=float).tolist(), strict=True))
        return feature_contributions(
            modality,
            names=getattr(statistics, f"{modality}_features"),
            values=values,
            standardised=self._batch[modality][0].cpu().numpy(),
            observed=self._batch[f"{modality}_observed"][0].cpu().numpy(),
            attributions=attributions,
            categories=self._features.clinical_categories if modality == "clinical" else frozenset(),
        )

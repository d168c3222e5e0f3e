"""What a trained version says about patients: scores of its members for any subsets of the modalities.

A patient's modalities are encoded once; every subset then costs a pass through the fusion alone. A patient is answered
for by members that never saw them. What the scores are worth does not belong here.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clinical_mm import tables
from clinical_mm.evaluation.baselines import prediction_rows
from clinical_mm.evaluation.held_out import Floats
from clinical_mm.features.dataset import PatientDataset, collate
from clinical_mm.features.loaded import TaskFeatures
from clinical_mm.progress import track
from clinical_mm.training.members import Member

MODEL = "fusion"

_BATCH = 16
Subset = tuple[str, ...]


def all_subsets(modalities: Sequence[str]) -> list[Subset]:
    """Every subset of one modality or more, the whole first, then from large to small, each in the given order."""
    sizes = range(len(modalities), 0, -1)
    return [subset for size in sizes for subset in combinations(modalities, size)]


def predict(
    members: Sequence[Member],
    features: TaskFeatures,
    splits: pd.DataFrame,
    subsets: Sequence[Subset],
    split_names: Sequence[str] = ("validation", "test"),
) -> pd.DataFrame:
    """Predictions of every member for the validation and test patients of its fold.

    Args:
        members: of one version.
        features: of the task.
        splits: `tables.SPLITS` as the version sees the patients; patients without any usable feature left out.
        subsets: the modalities to show; where a patient lacks all of them, every token is that of an absent modality.
        split_names: which patients of a fold.

    Returns:
        `tables.PREDICTIONS` of the model `fusion`; probabilities are the model's own, not yet calibrated.
    """
    parts = [tables.empty(tables.PREDICTIONS)]
    for member in track(members, "predicting"):
        of_fold = splits[splits["fold"] == member.fold]
        for split in split_names:
            ids = sorted(of_fold.loc[of_fold["split"] == split, "patient_id"])
            if ids:
                scores = member_scores(member, features, ids, subsets)
                parts += list(_rows(features, ids, scores, fold=member.fold, split=split))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def member_scores(
    member: Member, features: TaskFeatures, ids: Sequence[str], subsets: Sequence[Subset]
) -> dict[Subset, Floats]:
    """`[n, o]` scores of one member for each subset, patients in the order of `ids`."""
    tokens, present = _encode(member, features, ids)
    names = features.modalities
    scores = {}
    device = next(member.model.parameters()).device
    with torch.inference_mode():
        for subset in subsets:
            shown = present & torch.tensor([name in subset for name in names])
            logits = member.model.fuse(tokens.to(device), shown.to(device))
            scores[subset] = logits.double().cpu().numpy()
    return scores


def _encode(member: Member, features: TaskFeatures, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Tokens `[n, m, hidden]` and presence `[n, m]`, on the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nn.Module.to(member.model, device)
    dataset = PatientDataset(features, member.statistics, ids)
    loader: DataLoader[dict[str, Tensor]] = DataLoader(dataset, batch_size=_BATCH, collate_fn=collate)
    tokens, present = [], []
    with torch.inference_mode():
        for batch in loader:
            inputs = {k: v.to(device) for k, v in batch.items() if k not in {"labels", "patient_index"}}
            tokens.append(member.model.encode(**inputs).cpu())
            present.append(batch["present"])
    return torch.cat(tokens), torch.cat(present)


def _rows(
    features: TaskFeatures, ids: Sequence[str], scores: dict[Subset, Floats], *, fold: int, split: str
) -> Iterator[pd.DataFrame]:
    kind = features.task.outcome.kind
    labels = features.cohort["label"].astype(float)
    durations = features.cohort["duration"].astype(float) if kind == "survival" else None
    for subset, of_subset in scores.items():
        yield prediction_rows(
            kind,
            MODEL,
            subset,
            fold=fold,
            split=split,
            ids=ids,
            scores=of_subset,
            labels=labels,
            durations=durations,
        )

"""Codes of the pipeline in words that a reader knows."""

MODALITY_NAMES = {"text": "Notes", "image": "Images", "genomics": "Genomics", "clinical": "Clinical values"}

ITEM_NOUNS = {
    "text": ("note", "notes"),
    "image": ("series", "series"),
    "genomics": ("sample", "samples"),
    "clinical": ("value", "values"),
}

METRIC_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auroc_macro": "AUROC, mean of the classes",
    "brier": "Brier score (lower is better)",
    "balanced_accuracy": "balanced accuracy",
    "c_index": "c-index",
}

EVENT_NAMES = {"binary": "positives", "multiclass": "of the rarest class", "survival": "events"}
"""What the count of events of a metric counts, by kind of outcome."""

_REASONS = {
    "after_index": "available only after the index time",
    "out_of_window": "outside the time window",
    "not_chosen": "not the one that the study takes",
    "over_limit": "over the study's limit of items",
    "wrong_type": "of another note type",
    "wrong_note_type": "of another note type",
    "wrong_modality": "of another imaging modality",
    "wrong_description": "of another series description",
    "too_few_slices": "too few slices",
    "not_a_volume": "no evenly spaced stack of slices",
    "missing_time": "without a time",
    "no_index_time": "no index time to judge it by",
    "windows_over_max": "windows over the number that the study reads",
    "notes_over_max": "notes over the number of windows that the study reads",
    "no_tokens": "notes without a word that the encoder knows",
    "volume_missing": "series whose volume is missing",
    "no_contrast": "images without any contrast",
    "no_spacing": "series without spacing, which the study's resampling needs",
    "slices_not_taken": "slices between those that are taken evenly",
    "no_feature_measured": "samples without a measured feature",
    "variable_not_declared": "values of variables that are not declared",
    "level_not_declared": "values that are no declared level",
}


def reason(code: str) -> str:
    """A reason code in words; one that is not known here is spelled out as it is."""
    return _REASONS.get(code, code.replace("_", " "))


def metric_name(metric: str) -> str:
    """A metric as a reader knows it."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def model_name(model: str) -> str:
    """A model of the evaluation as a reader knows it."""
    return "fusion model" if model == "fusion" else model.removeprefix("baseline_").replace("_", " ")

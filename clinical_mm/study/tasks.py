"""Tasks: what is to be predicted, from which modalities, with which model, and how it is judged."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from clinical_mm.study.base import Name, Pattern, Settings

MODALITIES = ("text", "image", "genomics", "clinical")
"""The modalities, in the order in which models, tables and reports list them."""


class BinaryOutcome(Settings):
    """A yes or no."""

    kind: Literal["binary"]
    variable: str
    positive: str = Field("1", description="the value that means yes; every other is no")


class MulticlassOutcome(Settings):
    """One of several classes."""

    kind: Literal["multiclass"]
    variable: str
    classes: tuple[str, ...] = Field(min_length=3, description="in the order of the model's outputs")


class SurvivalOutcome(Settings):
    """Time to an event, right-censored; learned by the Cox partial likelihood."""

    kind: Literal["survival"]
    duration: str = Field(description="variable: time from the index time to event or censoring")
    event: str = Field(description="variable: whether the event was seen")
    event_value: str = Field("1", description="the value of it that means that the event was seen")
    duration_unit: str = Field("months", description="printed beside durations")


Outcome = Annotated[BinaryOutcome | MulticlassOutcome | SurvivalOutcome, Field(discriminator="kind")]


class Window(Settings):
    """Days relative to the index time in which an item must have become available; the end is inclusive."""

    from_days: float | None = Field(
        None, description="earliest, negative is before the index time; default: ever"
    )
    until_days: float = Field(0.0, description="latest; past 0 needs allow_after_index and a reason")
    allow_after_index: bool = False
    reason: str | None = Field(None, description="why items from after the index time are no leak")

    @model_validator(mode="after")
    def _order(self) -> "Window":
        if self.from_days is not None and self.from_days > self.until_days:
            raise ValueError("from_days lies after until_days")
        if self.until_days > 0 and not (self.allow_after_index and self.reason):
            raise ValueError("reaches past the index time: set allow_after_index: true and give a reason")
        return self


class _Modality(Settings):
    sources: tuple[Name, ...] = Field(
        (), description="sources to take it from; default: all of this modality"
    )
    window: Window = Window()
    choose: Literal["all", "latest", "first", "nearest"] = "all"
    at_most: int | None = Field(None, ge=1, description="items to keep of those chosen; the rest is counted")
    learning_rate: float | None = Field(None, gt=0, description="default: the training's")


class TextModality(_Modality):
    """Notes, read by a Hugging Face encoder in overlapping windows."""

    encoder: str = Field(
        "emilyalsentzer/Bio_ClinicalBERT",
        description="directory, hub id, or `pretrained` for the study's own",
    )
    fine_tune: Literal["full", "last_k", "frozen"] = "full"
    last_k: int = Field(2, ge=1, description="layers that learn with fine_tune: last_k")
    window_tokens: int = Field(512, ge=16, description="tokens a window, special tokens included")
    overlap_tokens: int = Field(64, ge=0)
    max_windows: int = Field(
        8, ge=1, description="windows a patient; what is left out is counted and reported"
    )
    note_types: tuple[str, ...] = Field((), description="default: all")
    word_dropout: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="share of the tokens that the mask token hides in training; none where fine_tune is frozen",
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> "TextModality":
        if self.overlap_tokens > self.window_tokens // 2:
            raise ValueError("overlap_tokens is more than half of window_tokens")
        return self


class ImageModality(_Modality):
    """DICOM series, read by a MONAI network in two or three dimensions."""

    spatial_dims: Literal[2, 3] = 3
    size: tuple[int, ...] = Field(
        (96, 96, 96), description="voxels [depth, height, width], or [height, width]"
    )
    spacing_mm: tuple[float, ...] | None = Field(
        None, description="resample to it and crop or pad; default: the whole field of view resized to size"
    )
    intensity: Literal["window", "header", "percentile"] = Field(
        "percentile",
        description="to [0, 1] by window_hu, the header's VOI window, or the 0.5 and 99.5 percentile",
    )
    window_hu: tuple[float, float] | None = Field(None, description="lowest and highest value, in HU for CT")
    modality: tuple[str, ...] = Field((), description="(0008,0060) values to use: CT, MR …; default: all")
    description: Pattern | None = Field(
        None, description="regular expression that the series' description must match"
    )
    min_slices: int = Field(1, ge=1)
    max_series: int = Field(1, ge=1, description="series a patient, pooled as a set; the rest is counted")
    slices_per_series: int = Field(1, ge=1, description="2D: slices taken evenly from a series of several")
    network: str = Field("DenseNet121", description="a classification network of monai.networks.nets")
    arguments: dict[str, Any] = Field({}, description="further arguments of the network")
    weights: str | None = Field(None, description="safetensors, or a torch file of tensors alone")
    augment: bool = Field(True, description="flips, small rotations and intensity shifts in training")

    @model_validator(mode="after")
    def _dimensions_agree(self) -> "ImageModality":
        if len(self.size) != self.spatial_dims:
            raise ValueError(f"size names {len(self.size)} axes, spatial_dims is {self.spatial_dims}")
        if self.spacing_mm is not None and len(self.spacing_mm) != self.spatial_dims:
            raise ValueError(
                f"spacing_mm names {len(self.spacing_mm)} axes, spatial_dims is {self.spatial_dims}"
            )
        if (self.intensity == "window") != (self.window_hu is not None):
            raise ValueError("window_hu and intensity: window go together")
        return self


class GenomicsModality(_Modality):
    """Genomic features, standardised on the training patients."""

    choose: Literal["all", "latest", "first", "nearest"] = Field(
        "all", description="over the samples of a source"
    )
    samples: Literal["mean", "tumour_over_normal", "refuse"] = Field(
        "mean",
        description="several samples of a patient in one source, before `choose`: mean of all; those of tumour alone "
        "where there is any; or refuse, none of them. Of those that stay, several are averaged",
    )
    normal: Pattern = Field(
        r"^TCGA-\w{2}-\w{4}-[12]\d",
        description="tumour_over_normal: regular expression of the ids of normal samples; default: TCGA's sample types "
        "10 to 29",
    )
    features: Pattern = Field(".*", description="regular expression: the features to use")
    top_variance: int | None = Field(None, ge=1, description="keep the features that vary most in training")
    hidden: tuple[int, ...] = (128,)
    dropout: float = Field(0.2, ge=0, lt=1)
    feature_dropout: float = Field(
        0.2, ge=0, lt=1, description="share of the measured values that are hidden in training"
    )


class ClinicalModality(_Modality):
    """Structured covariates, standardised (numbers) or one-hot (categories)."""

    choose: Literal["all", "latest", "first", "nearest"] = Field(
        "latest", description="over a variable's values"
    )
    variables: tuple[str, ...] = Field((), description="default: all")
    hidden: tuple[int, ...] = (32,)
    dropout: float = Field(0.1, ge=0, lt=1)
    feature_dropout: float = Field(
        0.1, ge=0, lt=1, description="share of the measured values that are hidden in training"
    )


class Modalities(Settings):
    """The modalities of a task; those that are not named are not read."""

    text: TextModality | None = None
    image: ImageModality | None = None
    genomics: GenomicsModality | None = None
    clinical: ClinicalModality | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> "Modalities":
        if not self.names:
            raise ValueError(f"names no modality: one or more of {', '.join(MODALITIES)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the declared modalities, in the order of `MODALITIES`."""
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)


class HoldoutSplit(Settings):
    """One held-out test set, and validation patients for early stopping. Patients once assigned stay."""

    method: Literal["holdout"] = "holdout"
    test: float = Field(0.25, gt=0, lt=0.8, description="share of the patients")
    validation: float = Field(0.15, gt=0, lt=0.5, description="share of the patients")


class KFoldSplit(Settings):
    """Cross-validation for small cohorts: every patient is in the test of one fold."""

    method: Literal["kfold"]
    folds: int = Field(5, ge=2, le=20)
    validation: float = Field(0.15, gt=0, lt=0.5, description="share of each fold's training patients")


Split = Annotated[HoldoutSplit | KFoldSplit, Field(discriminator="method")]


class FusionSettings(Settings):
    """How the modalities come together."""

    fusion: Literal["concat", "gated", "cross_attention"] = "gated"
    hidden: int = Field(128, ge=4, description="width of a modality's token")
    dropout: float = Field(0.1, ge=0, lt=1)
    modality_dropout: float = Field(
        0.2, ge=0, lt=1, description="chance that a present modality is hidden in training"
    )
    layers: int = Field(2, ge=1, description="cross_attention: transformer layers")
    heads: int = Field(4, ge=1, description="cross_attention: attention heads")

    @model_validator(mode="after")
    def _heads_divide(self) -> "FusionSettings":
        if self.hidden % self.heads:
            raise ValueError("hidden is not a multiple of heads")
        return self


class TrainingSettings(Settings):
    """Fine-tuning by the Hugging Face Trainer."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(8, ge=1, description="patients a step and device; survival wants many")
    accumulation: int = Field(1, ge=1, description="steps whose gradients are added up")
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps")
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    patience: int = Field(5, ge=1, description="epochs without a better validation metric before it stops")
    averaging_epochs: float = Field(
        2.0,
        ge=0,
        description="the weights that are validated and kept are a running mean over about the latest tenth of the "
        "steps, and over so many epochs at most; 0: as the last step left them",
    )
    precision: Literal["fp32", "bf16", "auto"] = Field("auto", description="auto: bf16 where a GPU has it")
    max_gradient_norm: float = Field(1.0, gt=0)
    balance_classes: bool = Field(
        False, description="weigh classes in the loss as if all were equally frequent; not for survival"
    )
    loader_workers: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1, description="CPU threads; fix it where runs must repeat exactly")


class EvaluationSettings(Settings):
    """How the model is judged on held-out patients."""

    bootstrap: int = Field(1000, ge=100, description="resamples of patients for every interval")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    baselines: bool = True


class ExplainSettings(Settings):
    """Integrated Gradients and the reports made of it."""

    patients: int | None = Field(None, ge=1, description="held-out patients to explain; default: all")
    steps: int = Field(
        32, ge=8, description="gradients along the path to begin with; more where the error is not yet small"
    )
    max_steps: int = Field(2048, ge=8, description="the most of them; few patients need so many")
    completeness: float = Field(
        0.01, gt=0, lt=0.5, description="error to reach, as a share of f(x) - f(baseline)"
    )
    batch_size: int = Field(16, ge=1, description="interpolated inputs in one pass")


class PromotionSettings(Settings):
    """When a challenger becomes the champion."""

    margin: float = Field(0.02, ge=0, lt=0.5, description="how much worse it may be, by the paired bootstrap")
    beat_baseline: bool = Field(True, description="it must not be worse than the best classical baseline")


class Task(Settings):
    """One question: a cohort, a model, an evaluation and its reports."""

    question: str = Field(description="what the model answers, as the report prints it")
    outcome: Outcome
    modalities: Modalities
    index_time: Literal["outcomes", "none"] = Field(
        "outcomes", description="outcomes: the outcomes' index_time; none: every item is declared timeless"
    )
    min_modalities: int = Field(1, ge=1, description="patients with fewer are not in the cohort, and counted")
    split: Split = HoldoutSplit()
    model: FusionSettings = FusionSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    explain: ExplainSettings = ExplainSettings()
    promotion: PromotionSettings = PromotionSettings()

    @field_validator("split", mode="before")
    @classmethod
    def _method_defaults_to_holdout(cls, value: object) -> object:
        return {"method": "holdout", **value} if isinstance(value, dict) and "method" not in value else value

"""The errors that a user is meant to read.

Every error that the library raises on purpose derives from `ClinicalMMError`: one sentence that says what was
wrong, where, what was expected and what to do. The command prints it without a traceback and leaves with
`exit_code`. No message holds note text, a name or an identifier of a patient.
"""


class ClinicalMMError(Exception):
    """Base of all errors that are meant for the user; `exit_code` is what the command leaves with."""

    exit_code = 1


class StudyError(ClinicalMMError):
    """The study file is wrong, or does not fit the files that it names."""

    exit_code = 2


class StoreError(ClinicalMMError):
    """The store cannot be read, written or locked."""

    exit_code = 3


class DeliveryError(ClinicalMMError):
    """A delivery as a whole cannot be ingested (single records are quarantined instead)."""

    exit_code = 4


class TableError(ClinicalMMError):
    """A table that passes between stages does not have its declared schema."""

    exit_code = 5


class CohortError(ClinicalMMError):
    """No cohort, or no usable split, can be made of what was ingested."""

    exit_code = 6


class EncoderError(ClinicalMMError):
    """A pretrained encoder or tokenizer is missing, or is not what its name says."""

    exit_code = 7


class TrainingError(ClinicalMMError):
    """Training cannot start, or had to stop."""

    exit_code = 8


class ModelError(ClinicalMMError):
    """A model directory is missing, incomplete or does not fit the data."""

    exit_code = 9


class CheckFailedError(ClinicalMMError):
    """A blocking check failed: conservation, leakage or a promotion rule."""

    exit_code = 10

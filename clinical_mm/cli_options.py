"""What several modules of commands share: which study, the exit statuses in their help, and opening it."""

from pathlib import Path
from typing import Annotated

import typer

from clinical_mm.store import Store
from clinical_mm.study.file import load_study
from clinical_mm.study.root import Study

EXIT_STATUS = (
    "Exit status: 0 done, 1 interrupted or refused by the system, 2 command line or study file, 3 store, 4 delivery, "
    "5 table, 6 cohort, 7 encoder, 8 training, 9 model, 10 a blocking check failed."
)

StudyOption = Annotated[Path, typer.Option("--study", "-s", help="The study file.")]
STUDY = Path("study.yaml")


def open_study(path: Path) -> tuple[Study, Store]:
    """The study of a file, and its store."""
    study = load_study(path)
    return study, Store(study.store_path)

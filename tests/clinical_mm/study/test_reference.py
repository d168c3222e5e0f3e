from pathlib import Path

from clinical_mm.study.reference import reference
from clinical_mm.study.tasks import TextModality


def test_the_page_in_docs_is_what_the_models_say() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "study-file.md"
    assert page.read_text(encoding="utf-8").strip() == reference().strip(), "run: make docs"


def test_every_option_of_a_modality_is_listed() -> None:
    text = reference()
    assert all(f"| `{name}` |" in text for name in TextModality.model_fields)

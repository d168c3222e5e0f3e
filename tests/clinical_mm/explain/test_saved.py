from pathlib import Path

import numpy as np
import pytest

from clinical_mm.errors import TableError
from clinical_mm.explain.attribution import Completeness
from clinical_mm.explain.averaging import ENSEMBLE, averaged
from clinical_mm.explain.covariates import FeatureContribution
from clinical_mm.explain.explanation import Explanation, ModalityContribution
from clinical_mm.explain.grids import ImageAttribution
from clinical_mm.explain.saved import ExplanationWriter, SavedExplanations
from clinical_mm.explain.words import Word

TEXTS = {("notes", "n1"): "No necrosis", ("notes", "n2"): "Stable"}


def explanation(patient_id: str = "p1", factor: float = 1.0) -> Explanation:
    return Explanation(
        patient_id=patient_id,
        fold=0,
        target=0,
        target_name="relapse",
        logits=(2.0 * factor,),
        completeness=Completeness(2.0 * factor, 0.5 * factor, 1.5 * factor, 0.0, 0.01, 32),
        contributions=(
            ModalityContribution("text", True, 0.75 * factor, 0.5 * factor),
            ModalityContribution("genomics", True, 0.75 * factor, 1.0 * factor),
            ModalityContribution("image", False, 0.0, 0.0),
        ),
        words=(
            Word("notes", "n1", 0, 2, "No", -0.25 * factor),
            Word("notes", "n1", 3, 11, "necrosis", 1.0 * factor),
        ),
        features=(
            FeatureContribution("genomics", "TP53", 2.5, None, 1.5, 0.5 * factor),
            FeatureContribution("genomics", "EGFR", None, None, None, 0.25 * factor),
            FeatureContribution("clinical", "sex", None, "male", None, 0.0),
        ),
        images=(
            ImageAttribution(
                "ct",
                "1.2#0",
                0,
                np.full((2, 3, 4), factor, np.float32),
                2 * np.eye(4),
                np.diag([3.0, 1, 1, 1]),
            ),
        ),
        text_remainder=0.0,
    )


def test_an_explanation_comes_back_from_the_store_as_it_was(tmp_path: Path) -> None:
    written = [explanation("p1"), explanation("p2", -2.0)]
    with ExplanationWriter(tmp_path) as writer:
        for one in written:
            writer.write(one)
    saved = SavedExplanations(tmp_path)
    assert saved.patient_ids == ["p1", "p2"]
    for one in written:
        read = saved.of(one.patient_id, TEXTS)
        assert (read.words, read.features, read.contributions) == (one.words, one.features, one.contributions)
        assert (read.completeness, read.logits, read.fold) == (one.completeness, one.logits, one.fold)
        np.testing.assert_array_equal(read.images[0].values, one.images[0].values)
        np.testing.assert_array_equal(read.images[0].grid_affine, one.images[0].grid_affine)
        np.testing.assert_array_equal(read.images[0].grid_to_volume, one.images[0].grid_to_volume)


def test_no_text_of_a_note_is_stored(tmp_path: Path) -> None:
    with ExplanationWriter(tmp_path) as writer:
        writer.write(explanation())
    assert not any(b"necrosis" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_other_notes_than_those_that_were_explained_are_an_error(tmp_path: Path) -> None:
    with ExplanationWriter(tmp_path) as writer:
        writer.write(explanation())
    with pytest.raises(TableError, match="not those that were explained"):
        SavedExplanations(tmp_path).of("p1", {("notes", "n1"): "short"})


def test_an_empty_folder_of_explanations_can_be_read(tmp_path: Path) -> None:
    with ExplanationWriter(tmp_path):
        pass
    assert SavedExplanations(tmp_path).patient_ids == []


def test_top_contributions_are_by_magnitude_and_by_sign() -> None:
    one = explanation()
    assert [w.text for w in one.top_words(5)] == ["necrosis", "No"]
    assert [w.text for w in one.top_words(5, "against")] == ["No"]
    assert [f.feature for f in one.top_features("genomics", 1)] == ["TP53"]
    assert one.top_features("clinical", 3, "for") == ()
    assert one.present == ("text", "genomics")


def test_the_mean_of_the_members_explains_their_mean_score() -> None:
    mean = averaged([explanation(factor=1.0), explanation(factor=3.0)])
    assert mean.fold == ENSEMBLE
    assert mean.completeness.score == 4.0
    assert mean.completeness.attributed == 3.0
    assert mean.words[1].attribution == 2.0
    assert mean.contributions[1].shapley == 2.0
    assert float(mean.images[0].values.max()) == 2.0
    assert mean.features[0].attribution == 1.0

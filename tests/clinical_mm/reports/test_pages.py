"""Properties that every page must have, checked by a parser of its own and not against stored bytes."""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from clinical_mm.reports.overview import FeatureTally, cohort_page, index_page, index_row
from clinical_mm.reports.page import PatientPage
from clinical_mm.reports.patient import patient_page
from clinical_mm.reports.rendering import render
from clinical_mm.reports.shading import visible

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """A page as a flat list of elements, with the text below each."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[int, str] = {}
        self._open: list[tuple[str, int]] = []
        self.feed(html)
        self.close()
        assert self._open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))
            self.text[len(self.elements) - 1] = ""

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        for _, place in self._open:
            self.text[place] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag: str, **wanted: str) -> list[str]:
        return [
            self.text[i]
            for i, (name, attributes) in enumerate(self.elements)
            if name == tag and all(attributes.get(k) == v for k, v in wanted.items())
        ]


@pytest.fixture
def page(make: dict[str, Callable], tmp_path: Path) -> PatientPage:
    return patient_page(
        make["study"](),
        "relapse",
        store=tmp_path,
        record=make["record"](tmp_path),
        explanation=make["explanation"](tmp_path),
        evidence=make["evidence"](),
    )


@pytest.fixture
def pages(make: dict[str, Callable], page: PatientPage, tmp_path: Path) -> dict[str, str]:
    study, evidence, explanation = make["study"](), make["evidence"](), make["explanation"](tmp_path)
    tally = FeatureTally()
    for _ in range(3):
        tally.add(explanation)
    contributions = pd.DataFrame([dataclasses.asdict(c) for c in explanation.contributions])
    index = index_page(study, "relapse", evidence, [index_row(page, explanation)])
    cohort = cohort_page(study, "relapse", evidence, contributions, tally)
    use = {"intended_use": study.intended_use}
    return {
        "patient": render("patient.html", script="patient.js", page=page, **use),
        "index": render("index.html", script="index.js", page=index, **use),
        "cohort": render("cohort.html", page=cohort, **use),
    }


def test_a_hostile_note_stands_on_the_page_as_text(pages: dict[str, str], page: PatientPage) -> None:
    parsed = Page(pages["patient"])
    texts = parsed.text_of("div", **{"class": "note-text"})
    assert texts == ["".join(s.text for s in note.segments) for note in page.notes]
    hostile = texts[1]
    for written in (
        "<script>alert('x')</script>",
        "{{ 7*7 }}",
        "{% include",
        "onerror=alert(1)",
        "&lt;b&gt;",
        "<!--",
        "مرحبا",
        "🩺",
    ):
        assert written in hostile
    assert "⟨U+202E⟩" in hostile
    assert len(parsed.of("script")) == 1
    assert not [
        image for image in parsed.of("img") if not (image["src"] or "").startswith("data:image/png;base64,")
    ]
    assert "\u202e" not in pages["patient"]
    assert "\x07" not in pages["patient"]


@pytest.mark.parametrize("name", ["patient", "index", "cohort"])
def test_a_page_loads_nothing_and_its_policy_allows_nothing(pages: dict[str, str], name: str) -> None:
    parsed = Page(pages[name])
    policy = next(m["content"] for m in parsed.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        for text in parsed.text_of(tag):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
    for _, attributes in parsed.elements:
        assert not [a for a in attributes if a.startswith("on") or a in {"style", "srcset", "srcdoc"}]
        for link in ("src", "href"):
            target = attributes.get(link)
            assert (
                target is None
                or target.startswith("data:image/png")
                or re.fullmatch(r"#?[\w.-]+(\.html)?", target)
            )
    assert "http://" not in pages[name].replace("http://www.w3.org", "")
    assert "https://" not in pages[name]


@pytest.mark.parametrize("name", ["patient", "index", "cohort"])
def test_a_page_can_be_read_without_eyes_or_mouse(pages: dict[str, str], name: str) -> None:
    parsed = Page(pages[name])
    assert parsed.of("html")[0]["lang"] == "en"
    assert len(parsed.of("main")) == len(parsed.of("h1")) == len(parsed.of("title")) == 1
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all("alt" in image for image in parsed.of("img"))
    assert all(th.get("scope") in {"row", "col"} for th in parsed.of("th"))
    assert len(parsed.of("caption")) == len(parsed.of("table"))
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a["aria-labelledby"] in ids for _, a in parsed.elements if "aria-labelledby" in a)
    assert parsed.of("a")[0]["href"] == "#main"


@pytest.mark.parametrize("name", ["patient", "index", "cohort"])
def test_every_page_says_what_it_is_for_and_no_page_names_the_patient(
    pages: dict[str, str], name: str
) -> None:
    html = pages[name]
    assert "Not a diagnosis." in html
    assert "Research use only" in html
    assert "Fusion beats the best baseline" in html
    assert "TCGA-XX-0001" not in html


def test_the_answer_stands_with_its_calibrated_probability_and_interval(page: PatientPage) -> None:
    # σ(−0.2 + 1.0 · 1.1) = σ(0.9) = 0.7109
    assert page.answer.probability == pytest.approx(0.7109, abs=1e-4)
    assert page.answer.headline == "71%"
    assert "95% interval" in page.answer.sentence
    assert page.answer.lower is not None
    assert page.answer.upper is not None
    assert page.answer.lower < 0.7109 < page.answer.upper


def test_both_attributions_of_every_modality_stand_side_by_side(
    pages: dict[str, str], page: PatientPage
) -> None:
    rows = Page(pages["patient"]).text_of("tr")
    for row in page.modalities:
        shown = next(text for text in rows if text.strip().startswith(row.name))
        assert f"{row.integrated_gradients:+.2f}".replace("-", "−") in shown
        assert f"{row.shapley:+.2f}".replace("-", "−") in shown


def test_what_was_cut_or_came_late_is_a_warning(page: PatientPage) -> None:
    text = " ".join(page.warnings)
    assert "Notes were not read in full: 2 windows over the number that the study reads." in text
    assert "1 note became available after the index time. The study allows it: biopsy lag" in text


def test_an_absent_modality_and_a_missed_completeness_are_warnings(
    make: dict[str, Callable], tmp_path: Path
) -> None:
    whole = make["explanation"](tmp_path)
    without = dataclasses.replace(
        whole,
        images=(),
        contributions=tuple(
            dataclasses.replace(c, is_present=False, integrated_gradients=0.0, shapley=0.0)
            if c.modality == "image"
            else c
            for c in whole.contributions
        ),
        completeness=dataclasses.replace(whole.completeness, error=0.034, steps=256),
    )
    record = make["record"](tmp_path)
    record = dataclasses.replace(record, items=record.items[record.items["modality"] != "image"], series=())
    page = patient_page(
        make["study"](),
        "relapse",
        store=tmp_path,
        record=record,
        explanation=without,
        evidence=make["evidence"](),
    )
    assert page.warnings[0].startswith("The contributions miss the model's output by 3.4% after 256 steps")
    assert "Without images: the answer rests on notes, genomics and clinical values alone." in page.warnings
    assert any(f.label == "Images" and "nothing on record" in f.value for f in page.left_out)
    assert "contributes nothing" in render("patient.html", page=page, intended_use="")


def test_every_record_behind_the_page_can_be_traced(page: PatientPage) -> None:
    identifiers = {item.identifier for item in page.items}
    assert identifiers == {"n1", "n2", "1.2.840.1#0", "S-17", "age@c.csv#row 3"}
    labels = {fact.label for fact in page.provenance}
    assert {"Model version", "Study file (SHA-256)", "Data fingerprint"} <= labels


def test_genes_stand_with_the_patients_own_value_and_what_is_missing_is_counted(page: PatientPage) -> None:
    assert page.genomics is not None
    assert len(page.genomics.rows) == 20
    assert page.genomics.n_others == 40
    magnitudes = [abs(row.attribution) for row in page.genomics.rows]
    assert magnitudes == sorted(magnitudes, reverse=True)
    assert page.clinical is not None
    assert (page.clinical.rows[0].value, page.clinical.rows[0].direction) == (
        "71 years",
        "↑ 1.3 SD above the mean",
    )
    assert page.clinical.rows[1].value == "male"
    assert page.clinical.n_missing == 1


def test_a_word_of_few_patients_stays_off_the_cohorts_page(make: dict[str, Callable], tmp_path: Path) -> None:
    tally = FeatureTally()
    explanation = make["explanation"](tmp_path)
    tally.add(explanation)
    tally.add(explanation)
    assert tally.words() == ()
    tally.add(explanation)
    assert tally.words()[0].name == "necrosis"


@pytest.mark.parametrize(
    "text", ["a\x00b", "\u202eabc", "\ud800", "tags\U000e0041", "zero\u200bwidth", "line\u2028end"]
)
def test_hidden_characters_are_spelled_out(text: str) -> None:
    shown = visible(text)
    assert "⟨U+" in shown
    shown.encode("utf-8")

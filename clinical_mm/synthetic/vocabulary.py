"""The sentences of synthetic notes: templates with slots, and the phrases that are planted among them.

The planted phrases and their neutral counterparts stand at the same places, are as long as each other and share
their words save a few. All other findings come affirmed or denied at random, whoever the patient is. How sentences
become notes and files does not belong here.
"""

import re

import numpy as np

PLANTED = (
    "Microvascular invasion is present, with tumour emboli in several portal venules.",
    "Tumour emboli fill small portal venules, in keeping with microvascular invasion.",
    "There is extensive microvascular permeation, and tumour emboli are seen in portal venules.",
    "Sections show microvascular invasion by tumour emboli beneath the capsule.",
)
"""What the pathologist of a patient with the text signal writes, in one of these wordings."""

NEUTRAL = (
    "Portal venules are patent, with thin walls and an intact capsule in several blocks.",
    "Small portal venules are patent and thin walled, in keeping with preserved architecture.",
    "There is preserved lobular architecture, and patent sinusoids are seen between portal venules.",
    "Sections show patent central venules and preserved sinusoids beneath the capsule.",
)
"""What stands at the same place for all others."""

PLANTED_SHORT = (
    "Histology had shown microvascular invasion with emboli.",
    "We discussed the microvascular invasion and the emboli on histology.",
)
NEUTRAL_SHORT = (
    "Histology had shown patent venules with preserved sinusoids.",
    "We discussed the patent venules and preserved architecture on histology.",
)
"""The same in a letter, which half of the patients with letters have."""

PLANTED_WORDS = ("microvascular", "emboli", "permeation")
"""Words that stand in planted phrases alone."""

LEAK_WORDS = ("recurrence", "salvage", "surveillance")
"""Words that stand only in notes that are not to be read: the first two tell of a relapse, the third of none."""

LEAK_RELAPSE = (
    "Recurrence in the liver is confirmed on imaging; salvage treatment is being planned.",
    "Biopsy confirms recurrence. The tumour board recommends salvage ablation.",
)
LEAK_NO_RELAPSE = (
    "Surveillance imaging is clear at every visit so far; yearly surveillance continues.",
    "The patient stays free of disease; surveillance continues, and the surveillance interval is extended.",
)

PATHOLOGY_OPENING = (
    "Specimen: segmental liver resection, {weight} g, received fresh and inked.",
    "Liver resection specimen measuring {a} x {b} x {c} cm, oriented by suture.",
    "Part of the liver, {weight} g, with gallbladder attached. Serially sliced at 5 mm.",
    "Received in formalin: wedge of liver with smooth capsule, {a} x {b} x {c} cm.",
)
PATHOLOGY_TUMOUR = (
    "The cut surface shows a single tan nodule of {size} mm, {margin} mm from the margin.",
    "One well circumscribed lesion is found, {size} mm across, with a resection margin of {margin} mm.",
    "A bile stained nodule measures {size} mm in greatest dimension; the closest margin is {margin} mm.",
)
PATHOLOGY_FINDINGS = (
    ("Perineural invasion is identified focally.", "No perineural invasion is identified."),
    ("The tumour infiltrates a bile duct branch.", "Bile duct branches are free of tumour."),
    ("Background liver shows cirrhosis, Ishak stage 6.", "Background liver shows no cirrhosis."),
    ("Steatosis involves about {percent} percent of hepatocytes.", "There is no steatosis."),
    ("Areas of necrosis amount to {percent} percent.", "Necrosis is not seen."),
    ("Lymph nodes: metastasis in one of {nodes}.", "Lymph nodes: none of {nodes} is involved."),
    ("Mitoses are frequent, {count} in ten fields.", "Mitoses are sparse."),
    ("Immunohistochemistry is positive for glypican 3.", "Immunohistochemistry for glypican 3 is negative."),
    ("Growth is trabecular with clear cell change.", "Growth is trabecular without clear cell change."),
    ("Iron stain shows mild siderosis.", "Iron stain is negative."),
)
PATHOLOGY_CLOSING = (
    "Diagnosis: hepatocellular carcinoma. Stage to be given after clinical correlation.",
    "Conclusion: hepatocellular carcinoma, completely excised in the planes examined.",
    "Summary: primary carcinoma of the liver. Further stains are available on request.",
)

LETTER_OPENING = (
    "Thank you for referring this {age} year old {person} with a lesion of the right liver lobe.",
    "This {age} year old {person} was seen in the hepatobiliary clinic today.",
    "I reviewed this {age} year old {person} after discussion in the tumour board.",
)
LETTER_FINDINGS = (
    ("There is known hepatitis C, treated some years ago.", "Hepatitis serology is negative."),
    ("Weight has fallen by {count} kg.", "There is no weight loss."),
    ("The patient complains of pruritus.", "There is no pruritus."),
    ("Ascites is present on examination.", "There is no ascites on examination."),
    ("The abdomen is tender in the right upper quadrant.", "The abdomen is soft and not tender."),
    ("Diabetes is treated with metformin.", "There is no history of diabetes."),
    ("The patient smokes {count} cigarettes a day.", "The patient has never smoked."),
    ("Liver function tests are mildly raised.", "Liver function tests are within normal limits."),
    ("Alpha-fetoprotein is raised at {count}0 ng/mL.", "Alpha-fetoprotein is not raised."),
)
LETTER_CLOSING = (
    "We will see the patient again with the results.",
    "The next appointment is in {count} weeks, with blood tests beforehand.",
    "All questions were answered and written information was given.",
)

DISCHARGE_OPENING = (
    "Admitted for elective liver resection; the operation took {count}0 minutes longer than planned.",
    "The patient underwent open segmental resection without conversion.",
    "Discharge summary after laparoscopic resection of a liver nodule.",
)
DISCHARGE_FINDINGS = (
    ("A bile leak was drained percutaneously.", "No bile leak occurred."),
    ("Two units of blood were transfused.", "No blood was transfused."),
    ("Fever on day {count} resolved with antibiotics.", "The patient stayed afebrile."),
    ("Delirium on the first night settled.", "There was no delirium."),
    ("Oral intake was slow to resume.", "Oral intake resumed on the first day."),
    ("The wound was infected and opened.", "The wound healed without infection."),
)
DISCHARGE_CLOSING = (
    "Discharged home on paracetamol {count}00 mg as needed.",
    "Sutures to be removed on day {count} by the general practitioner.",
    "Medication on discharge: pantoprazole 40 mg, enoxaparin 40 mg for {count} days.",
)

NURSING = (
    "Slept well. Pain {pain}/10 at rest, analgesia given with good effect.",
    "Mobilised to the chair with help; drain output {count}0 ml, serous.",
    "Blood pressure 12{pain}/7{pain}, pulse 8{pain}, afebrile. Dressing dry.",
    "Family informed by telephone. Diet tolerated, no nausea.",
    "Breathing exercises with the physiotherapist; oxygen stopped.",
)

EXTERNAL = (
    "Überweisung wegen eines Leberrundherdes; Größe sonographisch {size} mm.",
    "Vorbefund: Hypertonie, gut eingestellt. Keine Allergien bekannt.",
    "Der Patient bzw. die Patientin wünscht eine Beratung über das weitere Vorgehen.",
    "Labor: Bilirubin normal, Thrombozyten {percent}0 G/l.",
    "Mit freundlichen Grüßen, die hausärztliche Praxis.",
)
"""Referrals from practices outside, in another language and encoding."""


def choose(options: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of the templates, its slots left open."""
    return options[int(rng.integers(len(options)))]


def some_findings(findings: tuple[tuple[str, str], ...], n: int, rng: np.random.Generator) -> list[str]:
    """So many of the findings, in random order, each affirmed in two of five cases and denied in the others."""
    places = rng.choice(len(findings), min(n, len(findings)), replace=False)
    return [findings[p][0 if rng.random() < 0.4 else 1] for p in places]


def fill(template: str, rng: np.random.Generator, *, age_years: int = 0, sex: str = "") -> str:
    """A template with its slots filled by plausible numbers that say nothing about the outcome."""
    numbers = {
        "weight": rng.integers(60, 700),
        "a": rng.integers(6, 18),
        "b": rng.integers(4, 12),
        "c": rng.integers(2, 8),
        "size": rng.integers(12, 70),
        "margin": rng.integers(1, 25),
        "percent": rng.integers(1, 9) * 5,
        "nodes": rng.integers(2, 12),
        "count": rng.integers(2, 12),
        "pain": rng.integers(0, 7),
    }
    person = {"female": "woman", "male": "man"}.get(sex, "patient")
    return template.format(**numbers, age=age_years, person=person)


def words_of(text: str) -> tuple[str, ...]:
    """The planted words that a text holds, in lower case, each once, in order."""
    found = (w for w in re.findall(r"\w+", text.lower()) if w in PLANTED_WORDS)
    return tuple(dict.fromkeys(found))

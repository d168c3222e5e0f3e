"""Numbers as a reader sees them: signs that stand out, percentages, intervals, times."""

import math
from datetime import datetime

import pandas as pd

MINUS = "−"
MISSING = "–"


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, a true minus, and no sign where it rounds to zero.

    >>> signed(0.345), signed(-2), signed(-0.001)
    ('+0.34', '−2.00', '0.00')
    """
    if not math.isfinite(value):
        return MISSING
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def number(value: float | None, digits: int = 4) -> str:
    """A number to so many significant digits; a dash where there is none.

    >>> number(1234.5678), number(0.00012345), number(None), number(-3.0), number(61.0)
    ('1235', '0.0001234', '–', '−3', '61')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value and abs(value) < 1e-5:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    places = max(digits - 1 - (math.floor(math.log10(abs(value))) if value else 0), 0)
    text = f"{value:.{places}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)


def percent(share: float | None) -> str:
    """A share in percent; never 0% or 100% for what is not certain.

    >>> percent(0.734), percent(0.0004), percent(0.9999), percent(0.031), percent(None)
    ('73%', '<0.1%', '>99.9%', '3.1%', '–')
    """
    if share is None or not math.isfinite(share):
        return MISSING
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    digits = 1 if 0 < share < 0.1 or 0.9 < share < 1 else 0
    text = f"{100 * share:.{digits}f}"
    return f"{text.removesuffix('.0')}%"


def interval(lower: float | None, upper: float | None, digits: int = 2) -> str:
    """The ends of an interval of plain numbers.

    >>> interval(0.61234, 0.8)
    '0.61 to 0.80'
    """
    if lower is None or upper is None or not (math.isfinite(lower) and math.isfinite(upper)):
        return MISSING
    return f"{lower:.{digits}f} to {upper:.{digits}f}".replace("-", MINUS)


def time(value: datetime | pd.Timestamp | None) -> str:
    """A time to the minute, or the day where it is midnight; a dash where there is none.

    >>> time(datetime(2024, 3, 1, 14, 5)), time(datetime(2024, 3, 1)), time(None)
    ('2024-03-01 14:05', '2024-03-01', '–')
    """
    if value is None or pd.isna(value):
        return MISSING
    return value.strftime("%Y-%m-%d" if (value.hour, value.minute) == (0, 0) else "%Y-%m-%d %H:%M")


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun.

    >>> counted(1, "patient"), counted(2, "series", "series"), counted(0, "note")
    ('1 patient', '2 series', '0 notes')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def enumerated(names: list[str]) -> str:
    """Names as a sentence lists them.

    >>> enumerated(["text", "image", "genomics"]), enumerated(["text"])
    ('text, image and genomics', 'text')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)

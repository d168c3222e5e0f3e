"""Gene symbols as HGNC approves them now: from previous symbols, aliases, and what spreadsheets made of them.

Only names change here. What becomes of two features that turn out to be one gene is for who reads them. HGNC:
https://www.genenames.org; the mangling by spreadsheets: Ziemann et al., 2016, doi:10.1186/s13059-016-1044-7.
"""

import gzip
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from clinical_mm.errors import DeliveryError
from clinical_mm.study.genomic_features import GeneSymbols

SHIPPED = Path(__file__).parent / "data" / "gene_symbols.tsv.gz"
"""HGNC's approved genes; date, origin and licence stand in the README beside it."""

APPROVED, PREVIOUS, ALIAS, DATE = "approved", "previous", "alias", "date"
AMBIGUOUS, UNKNOWN = "ambiguous", "unknown"

_COLUMNS = ("symbol", "previous", "alias")
_STEMS = {"MAR": ("MARCH", "MARC"), "SEP": ("SEPT", "SEP"), "DEC": ("DEC",), "OCT": ("OCT",)}
"""What stood before the number in a symbol that a spreadsheet read as a day of a month."""

_MONTHS = {"03": "MAR", "09": "SEP", "10": "OCT", "12": "DEC"}
_DAY_MONTH = re.compile(r"0?(\d{1,2})-(MAR|SEP|OCT|DEC)", re.IGNORECASE)
_MONTH_DAY = re.compile(r"(MAR|SEP|OCT|DEC)-0?(\d{1,2})", re.IGNORECASE)
_ISO_DATE = re.compile(r"\d{4}-(03|09|10|12)-(\d{2})(?:[ T]00:00:00)?")


@dataclass(frozen=True)
class Resolved:
    """What a symbol is today.

    Attributes:
        symbol: the current symbol; that which was asked for where it is ambiguous or unknown.
        status: `approved`, `previous`, `alias`, `date`, `ambiguous` or `unknown`.
    """

    symbol: str
    status: str


class SymbolTable:
    """Approved symbols, and which of them a previous symbol or alias may mean."""

    def __init__(self, genes: Iterable[tuple[str, Iterable[str], Iterable[str]]]) -> None:
        """Take approved symbols, each with its previous and alias symbols."""
        self._approved: set[str] = set()
        self._previous: dict[str, set[str]] = {}
        self._alias: dict[str, set[str]] = {}
        for symbol, previous, aliases in genes:
            self._approved.add(symbol)
            for known, names in ((self._previous, previous), (self._alias, aliases)):
                for name in names:
                    known.setdefault(name, set()).add(symbol)
        # Many tables write every symbol in capitals (C10ORF54), and HGNC does not.
        self._capitals = _in_capitals({symbol: {symbol} for symbol in self._approved})
        self._previous_capitals = _in_capitals(self._previous)
        self._alias_capitals = _in_capitals(self._alias)

    def resolve(self, symbol: str) -> Resolved:
        """What a symbol is today.

        An approved symbol is itself, whatever else it once was. A previous symbol goes before an alias. A symbol all in
        capitals is looked up in capitals; another is not, since `Kras` is a gene of the mouse.
        """
        if symbol in self._approved:
            return Resolved(symbol, APPROVED)
        known: tuple[tuple[str, Mapping[str, set[str]]], ...] = (
            (PREVIOUS, self._previous),
            (ALIAS, self._alias),
        )
        if symbol == symbol.upper():
            known = (
                (APPROVED, self._capitals),
                (PREVIOUS, self._previous),
                (PREVIOUS, self._previous_capitals),
                (ALIAS, self._alias),
                (ALIAS, self._alias_capitals),
            )
        for status, names in known:
            if genes := names.get(symbol):
                return Resolved(next(iter(genes)), status) if len(genes) == 1 else Resolved(symbol, AMBIGUOUS)
        return self._of_date(symbol)

    def _of_date(self, symbol: str) -> Resolved:
        """MARCH1 and MARC1 both became 1-Mar: a date is a gene only where one alone can have been meant.

        Symbols that were official go before aliases here, too: 2-Sep is SEPT2, though another gene is called SEP2.
        """
        found = [self.resolve(written) for written in _before_the_spreadsheet(symbol)]
        official = {r.symbol for r in found if r.status in (APPROVED, PREVIOUS)}
        genes = official or {r.symbol for r in found if r.status != UNKNOWN}
        if not genes:
            return Resolved(symbol, UNKNOWN)
        if len(genes) > 1 or (not official and any(r.status == AMBIGUOUS for r in found)):
            return Resolved(symbol, AMBIGUOUS)
        return Resolved(genes.pop(), DATE)

    def written_as(self, symbol: str) -> set[str]:
        """Every symbol that `resolve` takes for the same gene, as HGNC spells it; the symbol itself included."""
        current = self.resolve(symbol).symbol
        names = [name for known in (self._previous, self._alias) for name, g in known.items() if current in g]
        return {symbol, current, *(name for name in names if self.resolve(name).symbol == current)}


def _in_capitals(names: Mapping[str, set[str]]) -> dict[str, set[str]]:
    capitals: dict[str, set[str]] = {}
    for name, genes in names.items():
        capitals.setdefault(name.upper(), set()).update(genes)
    return capitals


def _before_the_spreadsheet(symbol: str) -> list[str]:
    """Symbols that a spreadsheet shows as this date; none where it is no date.

    >>> _before_the_spreadsheet("2-Sep")
    ['SEPT2', 'SEP2']
    """
    if found := _DAY_MONTH.fullmatch(symbol):
        day, month = found[1], found[2].upper()
    elif found := _MONTH_DAY.fullmatch(symbol):
        day, month = found[2], found[1].upper()
    elif found := _ISO_DATE.fullmatch(symbol):
        day, month = found[2], _MONTHS[found[1]]
    else:
        return []
    return [f"{stem}{int(day)}" for stem in _STEMS[month]]


def load_symbols(name: str, path: Path | None) -> SymbolTable:
    """Read a table of symbols.

    Args:
        name: of the source, for errors.
        path: of the study's own; None for the one that is shipped.

    Raises:
        DeliveryError: it is not there or cannot be read, a column is missing, or a symbol stands twice.
    """
    try:
        return _load(path or SHIPPED, (path or SHIPPED).stat().st_mtime_ns)
    except (OSError, EOFError, UnicodeDecodeError):
        raise DeliveryError(
            f"source {name}: the table of gene symbols does not exist or cannot be read: name a TSV in UTF-8, relative "
            "to the study file under symbols.path"
        ) from None
    except ValueError as error:
        raise DeliveryError(f"source {name}: the table of gene symbols {error}") from None


@lru_cache(maxsize=4)
def _load(path: Path, changed_ns: int) -> SymbolTable:
    opened = gzip.open if path.suffix == ".gz" else open
    genes: dict[str, tuple[list[str], list[str]]] = {}
    with opened(path, "rt", encoding="utf-8") as stream:
        lines = (line.rstrip("\r\n").split("\t") for line in stream if not line.startswith("#"))
        header = next(lines, [])
        if missing := [column for column in _COLUMNS if column not in header]:
            raise ValueError(f"has no column {missing[0]!r}: it needs {', '.join(_COLUMNS)}, divided by tabs")
        places = [header.index(column) for column in _COLUMNS]
        for number, fields in enumerate(lines, start=1):
            if len(fields) != len(header):
                raise ValueError(f"has {len(fields)} fields in row {number}, its header {len(header)}")
            symbol, previous, alias = (fields[place].strip() for place in places)
            if not symbol or symbol in genes:
                raise ValueError(f"names no symbol in row {number}, or one of an earlier row")
            genes[symbol] = (_list(previous), _list(alias))
    return SymbolTable((symbol, *names) for symbol, names in genes.items())


def _list(cell: str) -> list[str]:
    return [part.strip() for part in cell.split("|") if part.strip()]


@dataclass
class Renaming:
    """The renaming of a source's genes in a delivery, and what it did: for the catalogue.

    Without a table nothing is renamed, and nothing recorded.

    Attributes:
        table: the table; None where symbols are not normalised.
        gene: whose first group is the symbol in a feature's name.
        seen: what each feature, as it was written, became.
    """

    table: SymbolTable | None = None
    gene: re.Pattern[str] = re.compile("^(.+)$")
    seen: dict[str, Resolved] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, symbols: GeneSymbols, path: Path | None) -> "Renaming":
        """As a source declares it.

        Raises:
            DeliveryError: as `load_symbols`.
        """
        if not symbols.normalise:
            return cls()
        return cls(load_symbols(name, path), re.compile(symbols.gene))

    def current(self, feature: str) -> str:
        """A feature's name with the current symbol in it; it is recorded as seen."""
        if feature in self.seen:
            return self.seen[feature].symbol
        resolved = self._resolve(feature)
        if resolved is None:
            return feature
        self.seen[feature] = resolved
        return resolved.symbol

    def would_become(self, feature: str) -> str:
        """As `current`, without a record."""
        resolved = self._resolve(feature)
        return feature if resolved is None else resolved.symbol

    def _resolve(self, feature: str) -> Resolved | None:
        found = None if self.table is None else self.gene.search(feature)
        if self.table is None or found is None or not found[1]:
            return None
        resolved = self.table.resolve(found[1])
        start, end = found.span(1)
        return Resolved(f"{feature[:start]}{resolved.symbol}{feature[end:]}", resolved.status)

    def all_written(self, genes: Iterable[str]) -> tuple[str, ...]:
        """Genes with every other symbol that would be renamed to the same: what to look for in a file."""
        if self.table is None:
            return tuple(genes)
        return tuple(sorted({name for gene in genes for name in self.table.written_as(gene)}))

    def written_by_gene(self, genes: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The symbols of `all_written`, by gene."""
        return {gene: self.all_written([gene]) for gene in genes}

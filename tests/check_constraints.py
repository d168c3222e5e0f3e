"""Compare `pip freeze` on standard input with a constraints file: every installed package is pinned, exactly.

Run by `make lint`; leaves with 1 and a line for each package that is not.
"""

import re
import sys
from pathlib import Path


def pins(lines: list[str]) -> dict[str, str]:
    """Package to version, names normalised, local build labels (+cpu) left out."""
    found = {}
    for line in lines:
        name, separator, version = line.partition("==")
        if separator:
            found[re.sub(r"[-_.]+", "-", name.strip()).lower()] = version.strip().split("+")[0]
    return found


def main() -> int:
    """Print what deviates."""
    pinned = pins(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    installed = pins(sys.stdin.read().splitlines())
    if not installed:
        print("nothing is installed: was pip freeze piped in?")
        return 1
    unpinned = {"pip", "setuptools", "wheel"}
    wrong = [
        f"{name}: {version} is installed, constraints.txt says {pinned.get(name, 'nothing')}"
        for name, version in installed.items()
        if name not in unpinned and pinned.get(name) != version
    ]
    print("\n".join(wrong) or f"{len(installed)} packages are as constraints.txt pins them")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Licences by what they allow, and the strictest of several: what is made of several works may be used as all of them.

The classes are coarse and read from the licence's name: they sort pairs for a filter and a card, and are no legal
advice. A name that is not known counts as `unknown`, the strictest class of all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CLASSES = ("public-domain", "attribution", "share-alike", "non-commercial", "restricted", "unknown")
"""From the freest to the strictest. `restricted`: no derivatives, or proprietary terms."""

_WORDS = (
    ("restricted", r"\bND\b|NO-?DERIV|PROPRIETARY|ALL-RIGHTS"),
    ("non-commercial", r"\bNC\b|NON-?COMMERCIAL|RESEARCH"),
    ("share-alike", r"\bSA\b|SHARE-?ALIKE|\b[AL]?GPL|\bMPL|\bODBL|\bEUPL"),
    ("public-domain", r"\bCC0|\bCC-ZERO|PUBLIC-DOMAIN|\bPDM|\bPDDL|UNLICENSE|\b0BSD"),
    ("attribution", r"\bCC-BY\b|\bAPACHE|\bMIT\b|\bBSD|\bISC\b|\bODC-BY|\bZLIB|\bOFL|\bPSF|\bHPND"),
)
"""What stands in the names of a class's licences, in capitals and with `-` for blanks, the strictest word first."""


def licence_class(text: str | None) -> str:
    """Return the class of a licence: of an SPDX expression with AND the strictest part, with OR the freest."""
    parts = [
        min((_of_name(name) for name in re.split(r"\s+OR\s+", part, flags=re.IGNORECASE)), key=CLASSES.index)
        for part in re.split(
            r"\s+AND\s+|[;,+]", str(text or "").replace("(", " ").replace(")", " "), flags=re.IGNORECASE
        )
    ]
    return strictest(parts)


def strictest(classes: Iterable[str]) -> str:
    """Return the strictest of some classes; `unknown` where there is none."""
    return max(classes, key=CLASSES.index, default="unknown")


def _of_name(name: str) -> str:
    plain = re.sub(r"[\s_/]+", "-", name.strip().upper())
    return next((found for found, words in _WORDS if re.search(words, plain)), "unknown")

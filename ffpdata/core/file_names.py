"""File names as text, which tables and messages hold, and as paths, which the system opens.

A file's name is bytes. Python decodes them by the locale, and where that is not UTF-8 (`LC_ALL=C` without Python's
UTF-8 mode, Latin-1) an accented name becomes another text, or one with lone surrogates that no table stores. Here a
name's text is what its bytes are in UTF-8, on every machine. Where the locale is UTF-8 both forms are the same.
"""

from __future__ import annotations

import os


def text_of(path: str) -> str:
    """Return a path of the system as text; bytes that are not UTF-8 become lone surrogates (see `is_text`)."""
    try:
        return os.fsencode(path).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # text that this locale cannot spell, such as a string of a program
        return path


def path_of(text: str) -> str:
    """Return the path by which the system opens the file of a name; raises ValueError for what no name can be."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def is_text(name: str) -> bool:
    """Return whether a name is text that UTF-8 can spell, and not bytes in some other encoding."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    r"""Return a name with bytes that are not UTF-8 written as `\xe9`, so that it can be stored and printed."""
    return name if is_text(name) else "".join(map(_spelt, name))


def _spelt(character: str) -> str:
    code = ord(character)
    if not 0xD800 <= code <= 0xDFFF:
        return character
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"

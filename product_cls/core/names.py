"""Text that names things: one Unicode form, and a form that can be printed."""

import unicodedata

LONGEST = 1000  # characters of a name in a message; a cell of a broken table may hold megabytes


def nfc(text: str) -> str:
    """The text in Unicode's composed form (NFC), in which labels and ids are compared.

    macOS writes file names in the decomposed form (NFD): the same name then has other code points.
    """
    return unicodedata.normalize("NFC", text)


def is_text(name: str) -> bool:
    """Whether a file's name is valid Unicode; Linux allows any bytes in names."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: object, longest: int = LONGEST) -> str:
    """A name as it can be printed on one line.

    Bytes that are not UTF-8 and control characters are escaped (``\\udcb0``, ``\\r``). A name of
    more than ``longest`` characters is cut.
    """
    text = str(name)
    cut = f"{text[:longest]}..." if len(text) > longest else text
    return printable(cut)


def printable(text: str) -> str:
    """The text with bytes that are not UTF-8 and control characters, such as those that move a
    terminal's cursor, escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text.encode(errors="backslashreplace").decode()
    )

"""Text that names things: one Unicode form, and a form that can be printed."""

import unicodedata


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


def shown(name: object) -> str:
    """A name as it can be printed on one line.

    Bytes that are not UTF-8 and control characters are escaped (``\\udcb0``, ``\\r``).
    """
    text = str(name).encode(errors="backslashreplace").decode()
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )

"""The exception whose message is shown to users without a traceback."""

import re

from product_cls.core.names import printable

LOGIN = re.compile(r"(?<=:/)(/?)[^\s/]*@")


class UserError(ValueError):
    """A mistake that the user can fix.

    Args:
        sentence: one sentence that says what was wrong, where, and what is allowed, or several, a
            line each. Logins in its addresses are removed, and control characters are escaped: it
            may quote names from any file.
    """

    def __init__(self, sentence: str) -> None:
        lines = without_login(sentence).split("\n")
        super().__init__("\n".join(map(printable, lines)))


def without_login(text: str) -> str:
    """A text without logins: each ``https://NAME:PASSWORD@HOST`` becomes ``https://HOST``."""
    return LOGIN.sub(r"\1", text)


def reason(error: BaseException) -> str:
    """The message of another library's exception, as the end of a sentence.

    Returns:
        One line without a full stop or logins; the exception's class name if it has no message. A
        refused pickle has a message of its own, because torch and NumPy advise to load it anyway,
        which would run the code inside.
    """
    text = without_login(" ".join(str(error).split()).rstrip("."))
    if any(option in text for option in ("weights_only", "allow_pickle")):
        return "it holds Python objects, which are never loaded"
    return text or type(error).__name__

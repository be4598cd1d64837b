"""The one exception that is shown to users as a sentence, without a traceback."""

import re

LOGIN = re.compile(r"(?<=:/)(/?)[^\s/]*@")


class UserError(ValueError):
    """A mistake the user can mend: one sentence with what was wrong, where, and what is allowed.

    Logins in its addresses are left out.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(without_login(sentence))


def without_login(text: str) -> str:
    """A text for others to see: each ``https://NAME:PASSWORD@HOST`` in it is ``https://HOST``."""
    return LOGIN.sub(r"\1", text)


def reason(error: BaseException) -> str:
    """What another library's exception says, on one line and without a full stop and logins, to end
    a sentence of ours with."""
    return without_login(" ".join(str(error).split()).rstrip(".")) or type(error).__name__

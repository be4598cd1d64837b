"""The one exception that is shown to users as a sentence, without a traceback."""


class UserError(ValueError):
    """A mistake the user can mend: one sentence with what was wrong, where, and what is allowed."""


def reason(error: BaseException) -> str:
    """What another library's exception says, on one line and without a full stop, to end a sentence
    of ours with."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

"""The one exception that is shown to users as a sentence, without a traceback."""


class UserError(ValueError):
    """A mistake the user can mend: one sentence with what was wrong, where, and what is allowed."""

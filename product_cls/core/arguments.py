"""Messages about arguments: library code names its own argument, and its callers rename it.

Library code raises a plain ``ValueError`` that begins with the argument and its value,
``gamma=-1; allowed: 0 or more.`` A caller that passed on one of its own arguments, or a value
of the config, replaces the name: ``loss.gamma=-1; allowed: 0 or more.``
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from product_cls.core.errors import UserError

ARGUMENT = re.compile(r"[A-Za-z_][\w.-]*(?==)")  # dotted for nested arguments: `heads.age.weight=`
# Not in paths such as `multirun/fold=0,seed=1`.
LATER_ARGUMENT = re.compile(r"(?<=[\s('])" + ARGUMENT.pattern)


def as_typed(value: Any) -> str:
    """A value as a user types it: ``null`` for None, ``true`` and ``false``."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def argument_of(sentence: str) -> str | None:
    """The argument that a sentence begins with; None if it begins otherwise."""
    match = ARGUMENT.match(sentence)
    return match[0] if match else None


def rename_argument(
    sentence: str,
    rename: Callable[[str], str],
    otherwise: str = "",
    *,
    known: Container[str] = (),
) -> str:
    """A sentence with ``rename(ARGUMENT)=`` in place of ``ARGUMENT=``.

    The sentence is about the argument that it begins with. Further ones are renamed, too, if they
    are known to be arguments: a sentence may also name the columns of a file.

    Args:
        sentence: message of a ``ValueError``.
        rename: argument -> the name to show.
        otherwise: put before a sentence that begins with no argument, with a colon; "" for nothing.
        known: arguments that the sentence may name after its start.
    """

    def replace(match: re.Match[str]) -> str:
        argument = match[0]
        return rename(argument) if argument.partition(".")[0] in known else argument

    argument = argument_of(sentence)
    if argument is None:
        start, rest = (f"{otherwise}: " if otherwise else ""), sentence
    else:
        start, rest = rename(argument), sentence[len(argument) :]
    return start + LATER_ARGUMENT.sub(replace, rest)


def renaming(prefix: str, names: Mapping[str, str]) -> Callable[[str], str]:
    """A function that renames arguments.

    Args:
        prefix: put before arguments that are not in ``names``, with a dot; "" for none.
        names: argument -> name. ``{"loss": "task.loss"}`` renames ``loss.gamma`` as well.
    """

    def rename(argument: str) -> str:
        head, tail = argument, ""
        while head:
            if head in names:
                return names[head] + tail
            head, dot, last = head.rpartition(".")
            tail = dot + last + tail
        return f"{prefix}.{argument}" if prefix else argument

    return rename


@contextmanager
def renamed_arguments(prefix: str = "", **names: str) -> Iterator[None]:
    """Rename the arguments that a ``ValueError`` raised inside the block names; see ``renaming``.

    ``PREFIX: `` is put before a message that names no argument. A ``UserError`` passes unchanged.

    Raises:
        ValueError: about the renamed argument.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        sentence = rename_argument(
            str(error), renaming(prefix, names), otherwise=prefix, known=names
        )
        raise ValueError(sentence) from error

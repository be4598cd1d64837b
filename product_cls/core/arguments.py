"""Sentences about arguments: library code names its own, callers rename them to theirs.

Library code raises a plain ``ValueError`` that begins with the argument and its value,
``gamma=-1; allowed: 0 or more.`` A caller that passed one of its own arguments on, or a value of
the config, puts that name in its place: ``loss.gamma=-1; allowed: 0 or more.``
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from product_cls.core.errors import UserError

ARGUMENT = re.compile(r"[A-Za-z_][\w.-]*(?==)")  # dotted for nested arguments: `heads.age.weight=`


def argument_of(sentence: str) -> str | None:
    """The argument that a sentence begins with; None if it begins otherwise."""
    match = ARGUMENT.match(sentence)
    return match[0] if match else None


def rename_argument(sentence: str, rename: Callable[[str], str], otherwise: str = "") -> str:
    """The sentence about ``rename(ARGUMENT)=`` instead of ``ARGUMENT=``.

    Args:
        sentence: of a ``ValueError``.
        rename: argument -> the name to show.
        otherwise: goes in front of a sentence that names no argument, with a colon; "" for nothing.
    """
    argument = argument_of(sentence)
    if argument is None:
        return f"{otherwise}: {sentence}" if otherwise else sentence
    return rename(argument) + sentence[len(argument) :]


def renaming(prefix: str, names: Mapping[str, str]) -> Callable[[str], str]:
    """A function that renames arguments.

    Args:
        prefix: goes in front of arguments that ``names`` does not have; "" for none.
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
    """Rename the argument that a ``ValueError`` raised inside is about; see ``renaming``.

    A sentence that names no argument gets ``PREFIX: `` in front. A ``UserError`` passes unchanged.

    Raises:
        ValueError: about the renamed argument.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        sentence = rename_argument(str(error), renaming(prefix, names), otherwise=prefix)
        raise ValueError(sentence) from error

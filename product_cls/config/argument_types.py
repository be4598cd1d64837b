"""Finds the argument whose type made a call fail, for a message that names it."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from product_cls.core.arguments import as_typed

# Type -> its name in messages and the types of values that suit it. A config holds no tensors.
SUITABLE: dict[Any, tuple[str, tuple[type, ...]]] = {
    float: ("a number", (int, float)),
    int: ("a whole number", (int,)),
    bool: ("true or false", (bool, int)),
    str: ("text", (str,)),
    Path: ("a path", (str, Path)),
    NoneType: ("null", (NoneType,)),
    Tensor: ("", (Tensor,)),
}


def wrong_type(target: Callable[..., Any], arguments: Mapping[str, Any]) -> str | None:
    """A sentence about the first argument whose value does not suit its annotation.

    Only plain annotations count (numbers, text, paths, and unions of them), and only plain values.
    Meant for calls that failed: a value that does not suit may still work.

    Args:
        target: a class or a function.
        arguments: the values that it was called with, by name.

    Returns:
        ``lr=fast; allowed: a number.``; None if every value suits.
    """
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
        parameters = inspect.signature(target).parameters
    except (AttributeError, NameError, TypeError, ValueError):  # built-ins, or hints of a checker
        return None
    for name, value in arguments.items():
        if name not in hints or name not in parameters or value == parameters[name].default:
            continue
        hint = hints[name]
        types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        plain = value is None or isinstance(value, bool | int | float | str | Path)
        if not plain or not all(kind in SUITABLE for kind in types):
            continue
        if not any(isinstance(value, SUITABLE[kind][1]) for kind in types):
            words = [SUITABLE[kind][0] for kind in types if SUITABLE[kind][0]]
            return f"{name}={as_typed(value)}; allowed: {' or '.join(words)}."
    return None

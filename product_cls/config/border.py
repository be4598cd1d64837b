"""The border between the config and library code: arguments become keys of the command line.

Library code raises a plain ``ValueError`` about its own argument, ``gamma=-1; allowed: 0 or more.``
Only the code that called it knows which key the argument came from, so it puts the key there:
``loss.gamma=-1; allowed: 0 or more.``
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig, OmegaConf

from product_cls.core.errors import UserError

# A sentence about an argument begins with `name=`, which may be dotted: `losses.focal.weight=`.
ARGUMENT = re.compile(r"[A-Za-z_][\w.]*(?==)")
INTERPOLATION = re.compile(r"\$\{(\.*)([\w.]+)\}")


@contextmanager
def keys_for_arguments(prefix: str = "", **keys: str) -> Iterator[None]:
    """Turn a ``ValueError`` about an argument into a ``UserError`` about a key.

    Args:
        prefix: group that arguments belong to, ``loss`` for ``loss.gamma``; "" for none.
        keys: keys of arguments that are not called ``prefix.ARGUMENT``.

    Raises:
        UserError: the sentence of the ``ValueError``, about the key.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(name_key(str(error), prefix, keys)) from error


def name_key(sentence: str, prefix: str = "", keys: dict[str, str] | None = None) -> str:
    """A sentence that begins with ``ARGUMENT=`` with the argument's key in its place.

    A sentence that begins otherwise gets ``PREFIX: `` in front.
    """
    if match := ARGUMENT.match(sentence):
        argument = match[0]
        default = f"{prefix}.{argument}" if prefix else argument
        return (keys or {}).get(argument, default) + sentence[match.end() :]
    return f"{prefix}: {sentence}" if prefix else sentence


def keys_of_node(node: DictConfig) -> dict[str, str]:
    """Argument -> the key that a user sets it by, for a node with a ``_target_``.

    Where the node's value is an interpolation (``root: ${data.root}``), that is the key named in
    it; elsewhere the node's own full key.
    """
    keys = {}
    for argument, value in OmegaConf.to_container(node, resolve=False).items():  # type: ignore[union-attr]
        full = str(node._get_full_key(argument))
        if isinstance(value, str) and (match := INTERPOLATION.fullmatch(value)):
            dots, target = match.groups()
            if (
                dots
            ):  # relative: one dot is the node that holds the key, each further one its parent
                parts = full.split(".")[: -len(dots)]
                full = ".".join([*parts, target])
            else:
                full = target
        keys[str(argument)] = full
    return keys

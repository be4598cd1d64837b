"""The border between the config and library code: arguments become keys of the command line.

Library code raises a plain ``ValueError`` about its own argument, ``gamma=-1; allowed: 0 or more.``
Only the code that called it knows which key the argument came from, so it puts the key there:
``loss.gamma=-1; allowed: 0 or more.``
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf

from product_cls.core.arguments import rename_argument, renaming
from product_cls.core.errors import UserError

INTERPOLATION = re.compile(r"\$\{(\.*)([\w.-]+)\}")


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


@contextmanager
def keys_for_node(node: DictConfig) -> Iterator[None]:
    """``keys_for_arguments`` for an object that was built from a config node, by ``key_of``.

    Raises:
        UserError: the sentence of the ``ValueError``, about the key.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        place = str(node._get_full_key(None))
        sentence = rename_argument(str(error), lambda name: key_of(node, name), otherwise=place)
        raise UserError(sentence) from error


def name_key(sentence: str, prefix: str = "", keys: Mapping[str, str] | None = None) -> str:
    """A sentence that begins with ``ARGUMENT=`` with the argument's key in its place.

    A sentence that begins otherwise gets ``PREFIX: `` in front.
    """
    return rename_argument(sentence, renaming(prefix, keys or {}), otherwise=prefix)


def key_of(node: DictConfig, argument: str) -> str:
    """The key by which a user sets an argument of the object that a node describes.

    Where the argument, or a part of its dotted name, is an interpolation, the key is the one it
    refers to: with ``task.loss: ${loss}``, the key of the task's ``loss.gamma`` is ``loss.gamma``.
    """
    place = str(node._get_full_key(None))
    config = OmegaConf.to_container(node._get_root(), resolve=False)
    return _follow(config, f"{place}.{argument}" if place else argument)


def keys_of_node(node: DictConfig) -> dict[str, str]:
    """Argument -> ``key_of``, for all arguments that the node holds."""
    return {str(argument): key_of(node, str(argument)) for argument in node}


def _follow(config: Any, key: str) -> str:
    """The key that ``key`` refers to in an unresolved config, after all interpolations."""
    parts = key.split(".")
    value = config
    for k, part in enumerate(parts):
        if not isinstance(value, dict) or part not in value:
            break
        value = value[part]
        if isinstance(value, str) and (match := INTERPOLATION.fullmatch(value)):
            dots, target = match.groups()
            # A relative one: the first dot is the node that holds the key, each more a parent.
            base = parts[: k + 1 - len(dots)] if dots else []
            return _follow(config, ".".join([*base, target, *parts[k + 1 :]]))
    return key

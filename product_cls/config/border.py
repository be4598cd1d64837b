"""The border between the config and library code: arguments become keys of the command line.

Library code raises a plain ``ValueError`` about its own argument, ``gamma=-1; allowed: 0 or more.``
Only the calling code knows which key the argument came from, so it replaces the name by the key:
``loss.gamma=-1; allowed: 0 or more.``
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue

from product_cls.core.arguments import rename_argument, renaming
from product_cls.core.errors import UserError

INTERPOLATION = re.compile(r"\$\{(\.*)([\w.-]+)\}")


@contextmanager
def keys_for_arguments(prefix: str = "", **keys: str) -> Iterator[None]:
    """Turn a ``ValueError`` about an argument into a ``UserError`` about the argument's key.

    Args:
        prefix: config group of the arguments: ``loss`` for ``loss.gamma``; "" for none.
        keys: argument -> key, where the key is not ``PREFIX.ARGUMENT``.

    Raises:
        UserError: the message of the ``ValueError``, about the key.
    """
    with _user_errors(lambda sentence: name_key(sentence, prefix, keys)):
        yield


@contextmanager
def keys_for_node(node: DictConfig) -> Iterator[None]:
    """As ``keys_for_arguments``, for arguments from a config node: keys are from ``key_of``.

    Raises:
        UserError: the message of the ``ValueError``, about the key.
    """

    def with_keys(sentence: str) -> str:
        node_key = str(node._get_full_key(None))
        return rename_argument(
            sentence, lambda name: key_of(node, name), otherwise=node_key, known=node
        )

    with _user_errors(with_keys):
        yield


@contextmanager
def missing_keys_named() -> Iterator[None]:
    """Turn OmegaConf's error about a key that the config lacks into a ``UserError``.

    Raises:
        UserError: naming the key.
    """
    try:
        yield
    except (ConfigAttributeError, ConfigKeyError, MissingMandatoryValue) as error:
        raise lacking(str(error.full_key)) from error


def lacking(key: str) -> UserError:
    """The error about a key that every config has, and this one lacks."""
    return UserError(
        f"The config has no {key}; product_cls.compose makes a whole config, and a group's file of "
        f"your own begins with the defaults of the package's files, such as `defaults: [base, "
        f"_self_]`."
    )


@contextmanager
def _user_errors(rewrite: Callable[[str], str]) -> Iterator[None]:
    """Turn a ``ValueError`` into a ``UserError`` with its message rewritten."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(rewrite(str(error))) from error


def name_key(sentence: str, prefix: str = "", keys: Mapping[str, str] | None = None) -> str:
    """Replace ``ARGUMENT=`` at the start of a sentence by the argument's key, and later ones that
    ``keys`` holds.

    ``PREFIX: `` is put before a sentence that begins otherwise.
    """
    keys = keys or {}
    return rename_argument(sentence, renaming(prefix, keys), otherwise=prefix, known=keys)


def key_of(node: DictConfig, argument: str) -> str:
    """The key with which a user sets an argument of the object that a node describes.

    If the argument, or a part of its dotted name, is an interpolation, this is the key that it
    refers to: with ``task.loss: ${loss}``, the key of the task's ``loss.gamma`` is ``loss.gamma``.
    """
    node_key = str(node._get_full_key(None))
    config = OmegaConf.to_container(node._get_root(), resolve=False)
    return _follow(config, f"{node_key}.{argument}" if node_key else argument)


def _follow(config: Any, key: str) -> str:
    """Follow the interpolations at ``key``, and at any parent of it, in an unresolved config."""
    parts = key.split(".")
    value = config
    for k, part in enumerate(parts):
        if not isinstance(value, dict) or part not in value:
            break
        value = value[part]
        if isinstance(value, str) and (match := INTERPOLATION.fullmatch(value)):
            dots, target = match.groups()
            # In a relative one, the first dot is the node that holds the key, and each further dot
            # is a parent.
            base = parts[: k + 1 - len(dots)] if dots else []
            return _follow(config, ".".join([*base, target, *parts[k + 1 :]]))
    return key

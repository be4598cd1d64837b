"""YAML and JSON files that someone else may have written: read within bounds, or refused.

A run folder can come from anyone. A file of it must not hang the reader (a pipe, a gigabyte,
aliases that unfold without end), and must hold the kind of content that its reader expects.
"""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from product_cls.core.errors import UserError, reason

T = TypeVar("T", bound="dict[Any, Any] | list[Any]")

LARGEST = {"JSON": 2**26, "YAML": 2**20}  # bytes; settings take some kilobytes
DEEPEST = 100  # levels of nested lists and mappings

# The C parser; PyYAML's own would take 15 s for the largest file.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_json(file: Path, kind: type[T]) -> T:
    """Content of a JSON file.

    Args:
        file: at most 64 MB.
        kind: of the outermost value, ``dict`` or ``list``.

    Raises:
        UserError: the file is missing, too large, no JSON, or of another kind.
    """
    return _read(file, kind, "JSON", json.loads)


def read_yaml(file: Path, kind: type[T]) -> T:
    """Content of a YAML file; see ``read_json``. At most 1 MB, plain values and no aliases."""
    return _read(file, kind, "YAML", parse_yaml)


def parse_yaml(text: str) -> Any:
    """Content of a YAML text: plain values.

    Raises:
        ValueError: it holds aliases, or a value that is none.
        RecursionError: it is nested too deeply.
        yaml.YAMLError: it is no YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        # Nine lines of nested aliases unfold into a billion values, and no file of ours has any.
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it holds aliases (*NAME), which are not read; write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:  # the C parser would overflow its stack, and ends the process
            raise RecursionError
    return yaml.load(text, Loader=Loader)


def _read(file: Path, kind: type[T], form: str, parse: Callable[[str], Any]) -> T:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{file} cannot be read: it is no file.")
        if status.st_size > LARGEST[form]:
            raise UserError(
                f"{file} cannot be read: {status.st_size} bytes are more than the "
                f"{LARGEST[form]} that such a file may have."
            )
        content = parse(file.read_text(encoding="utf-8"))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
    except RecursionError:
        raise UserError(f"{file} cannot be read: its values are nested too deeply.") from None
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {reason(error)}.") from None
    if not isinstance(content, kind):
        raise UserError(f"{file} is damaged: it holds no {kind.__name__}.")
    return content

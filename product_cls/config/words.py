"""Words of a command line, in which text stays as typed.

Hydra's grammar reads ``2024_10`` as the number 202410, and knows the letters of ASCII only. Where a
setting is text, such a value is quoted before Hydra reads it: ``name=2024_10`` becomes
``name="2024_10"``. ``TEXT`` and ``TEXTS`` are the only list of these settings.
"""

import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Quote, QuotedString, Sweep
from hydra.errors import HydraException

# Patterns of keys whose values are text; `*` is a part of a dotted key.
TEXT = (
    *("name", "epochs_from", "augment_engine", "monitor", "csv", "adapt"),
    *("adapt_views", "keep", "start", "teacher"),
    *("folds.strategy", "folds.file", "paths.*", "scale_lr.rule"),
    *("data.name", "data.root", "data.file", "data.test", "data.fit", "data.on_*", "data.suffix"),
    *("data.*_column", "data.*_file", "data.train_pictures", "data.difficulty"),
    *("data.encoding", "data.separator", "data.subset", "data.picture_folder"),
    "data.corrections",
    *(
        "task.label",
        "task.classifier",
        "task.vote.kind",
        "task.heads.*.column",
        "task.heads.*.class_weights",
    ),
    *("model.backbone", "model.weights", "model.pooling", "loss.mining"),
    *("logger.*.project", "logger.*.entity", "logger.*.group", "logger.*.name"),
    *("logger.*.experiment_name", "logger.*.run_name", "logger.*.tracking_uri"),
    *("logger.*.job_type", "logger.*.version", "logger.*.save_dir", "callbacks.*.monitor"),
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name"),
)
# The same for keys whose values are also lists of text.
TEXTS = (
    *("exclude", "tta", "data.labels", "task.labels", "task.heads"),
    *("task.heads.*.classes", "logger.*.tags", "task.views", "model.joined", "data.splits"),
)

WORD = re.compile(r"(\+*)([^=~+]+)=(.+)", re.DOTALL)
CALL = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)  # choice(a,b), range(1,3)
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
RESERVED = ("true", "false", "null", "inf", "nan")
PAIRS = {"[": "]", "{": "}", "(": ")"}
FAILED = object()


def typed_words(words: Sequence[str], groups: Collection[str]) -> list[str]:
    """The words, with quotes around text that Hydra would read as something else, or not at all.

    Args:
        words: of a command line. Flags, words without ``=`` and values in quotes stay as they are.
        groups: names of the config groups, whose options are text.
    """
    return [_typed(word, groups) for word in words]


def is_text(key: str) -> bool:
    """Whether the values of a dotted key are text, or lists of text."""
    return any(fits(key, pattern) for pattern in (*TEXT, *TEXTS))


def quoted(text: str) -> str:
    """A value in Hydra's grammar, which reads it as this text."""
    return QuotedString(text, Quote.double).with_quotes()


def fits(key: str, pattern: str) -> bool:
    """Whether a dotted key is one of those that a pattern names."""
    return key.count(".") == pattern.count(".") and fnmatchcase(key, pattern)


def _typed(word: str, groups: Collection[str]) -> str:
    match = WORD.fullmatch(word)
    if word.startswith("-") or match is None:
        return word
    plus, key, value = match.groups()
    option = "@" in key or "/" in key or key in groups
    return f"{plus}{key}={_values(key, value, option or is_text(key))}"


def _values(key: str, value: str, text: bool) -> str:
    """One value, or several with commas between them.

    Args:
        key: dotted.
        value: as typed.
        text: whether the values of the key are text.
    """
    parts = _split(value)
    if parts is None or (len(parts) > 1 and not all(part.strip() for part in parts)):
        # Brackets that do not match, or commas alone, are no values of a sweep.
        return quoted(value) if text and _parsed(value) is FAILED else value
    return ",".join(_value(key, part, text) for part in parts)


def _value(key: str, value: str, text: bool) -> str:
    inside = value.strip(" \t")  # which Hydra leaves out, too
    if (call := CALL.fullmatch(value)) and call[1] == "choice":
        return f"choice({_values(key, call[2], text)})"
    if any(fits(key, pattern) for pattern in TEXTS) or not is_text(key):
        if inside.startswith("{") and inside.endswith("}"):
            return _mapping(key, inside)
        if inside.startswith("[") and inside.endswith("]"):
            return _list(key, inside, text)
    if not inside or (PLAIN.fullmatch(value) and value.lower() not in RESERVED):
        return value
    if text:
        return value if _is_kept(value) else quoted(inside)
    # Characters that the grammar lacks; brackets and quotes are rather a mistake.
    lexed = _parsed(value) is not FAILED or set(value) & set("'\"[]{}()=:")
    return value if lexed else quoted(inside)


def _list(key: str, items: str, text: bool) -> str:
    """A list; in one of text, ``null`` is a name as any other."""
    parts = _split(items[1:-1])
    if parts is None:
        return items
    return (
        f"[{','.join(quoted(x) if text and x == 'null' else _value(key, x, text) for x in parts)}]"
    )


def _mapping(key: str, mapping: str) -> str:
    """A mapping; its keys are parts of the dotted key."""
    items = _split(mapping[1:-1])
    pairs = [item.partition(":") for item in items or ()]
    if not pairs or not all(colon and value for _, colon, value in pairs):
        return mapping
    typed = (
        f"{name}:{_value(inner, value, is_text(inner))}"
        for name, _, value in pairs
        for inner in [f"{key}.{name.strip()}"]
    )
    return f"{{{','.join(typed)}}}"


def _is_kept(value: str) -> bool:
    """Whether Hydra reads a value as it is meant: as the same text, null or a sweep."""
    parsed = _parsed(value)
    if parsed is None:
        return value.strip() == "null"
    if isinstance(parsed, str):
        # A backslash escapes characters of Hydra's grammar, for those who know it.
        return parsed == value.strip(" \t") or "\\" in value or CALL.fullmatch(value) is not None
    return isinstance(parsed, QuotedString | Sweep | Glob)


def _parsed(value: str) -> Any:
    """What Hydra reads; ``FAILED`` if it cannot."""
    try:
        return OverridesParser.create().parse_override(f"key={value}")._value
    except (HydraException, ValueError, RecursionError):
        return FAILED


def _split(text: str) -> list[str] | None:
    """The parts between commas outside of brackets and quotes; None if these do not match."""
    parts, open_brackets, quote, previous = [], [], "", ","
    start = k = 0
    while k < len(text):
        character = text[k]
        if character == "\\":
            k += 1  # the next character is escaped
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and previous in ",[{(:":  # at the start of a value
            quote = character
        elif character in PAIRS:
            open_brackets.append(PAIRS[character])
        elif character in PAIRS.values():
            if not open_brackets or open_brackets.pop() != character:
                return None
        elif character == "," and not open_brackets:
            parts.append(text[start:k])
            start = k + 1
        previous = previous if character.isspace() else character
        k += 1
    return None if quote or open_brackets else [*parts, text[start:]]

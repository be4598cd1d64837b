"""Reads the Markdown pages: fenced blocks, the commands in them, and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "multirun" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:product-cls|python|make) [^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Command:
    """One command line of a page.

    Attributes:
        place: page and line, for messages.
        words: without environment variables and comments.
        variables: ``NAME=value`` words before the command.
    """

    place: str
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line number and text of each fenced block in a language."""
    text = page.read_text()
    return [
        (text.count("\n", 0, match.start()) + 2, match[2])
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def commands(page: Path) -> list[Command]:
    """All commands of a page's ``bash`` blocks, and those that its text shows in backticks."""
    name = page.relative_to(ROOT).as_posix()
    found = []
    for start, text in blocks(page, "bash"):
        lines = text.replace("\\\n", "  ").splitlines()
        for number, line in enumerate(lines, start):
            found += list(_split(f"{name}:{number}", line))
    prose = FENCE.sub("", page.read_text())
    for match in INLINE.finditer(prose):
        words = match[1].replace("\n", " ")
        if "..." not in words and "{" not in words:
            found += list(_split(f"{name} `{words}`", words))
    return found


def _split(place: str, line: str) -> Iterator[Command]:
    """The simple commands of a shell line: joined by ``&&`` or ``;``, also inside a loop."""
    lexer = shlex.shlex(line.partition(" > ")[0], posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    simple: list[str] = []
    for word in [*_without_comment(list(lexer)), ";"]:
        if set(word) <= set(";&|"):
            if simple and (command := _command(place, simple)):
                yield command
            simple = []
        else:
            simple.append(word)


def _without_comment(words: list[str]) -> list[str]:
    comment = next((n for n, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment]


def _command(place: str, words: list[str]) -> Command | None:
    words = words[1:] if words[0] == "do" else words
    first = next((n for n, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    if first == len(words) or words[first] in ("for", "done"):
        return None
    return Command(place, tuple(words[first:]), tuple(words[:first]))


def links(page: Path) -> list[str]:
    """Relative links of a page, without those to other sites."""
    prose = FENCE.sub("", page.read_text())
    return [target for target in LINK.findall(prose) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs build them for plain headings."""
    prose = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

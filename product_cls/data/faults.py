"""Collects what is wrong with a data set, so that one message tells all of it."""

from collections.abc import Collection
from itertools import islice

from product_cls.core.arguments import argument_of
from product_cls.core.errors import UserError
from product_cls.core.names import shown

LISTED = 5  # names in a sentence


class Faults:
    """Sentences about what is wrong with a data set.

    Attributes:
        sentences: one for each fault.
        pictures_lost: whether pictures are missing from the sample table because of a fault, so
            that the numbers of pictures in it would only repeat that fault.
    """

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.pictures_lost = False

    def add(self, sentence: str, *, pictures_lost: bool = False) -> None:
        """Add a sentence; see the attributes."""
        self.sentences.append(sentence)
        self.pictures_lost |= pictures_lost

    def stop(self) -> None:
        """Return if there are none.

        Raises:
            ValueError: all sentences, a line each, the first about an argument of the reader.
            UserError: the same, without a sentence about an argument.
        """
        if not self.sentences:
            return
        about_arguments = [text for text in self.sentences if argument_of(text)]
        others = [text for text in self.sentences if not argument_of(text)]
        kind = ValueError if about_arguments else UserError
        raise kind("\n".join([*about_arguments, *others]))


def listed(names: Collection[object], most: int = LISTED) -> str:
    """The first ``most`` names as they can be printed, and how many more there are."""
    text = ", ".join(shown(name) for name in islice(names, most))
    return f"{text} and {len(names) - most} more" if len(names) > most else text

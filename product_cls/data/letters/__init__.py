"""Synthetic pictures of letters in noise, several per picture, in the letters contest's layout."""

from product_cls.data.letters.dataset import make_letters, read_letters

__all__ = ["make_letters", "read_letters"]

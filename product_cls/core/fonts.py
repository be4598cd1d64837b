"""Fonts for pictures that hold text: Noto Sans KR and Noto Serif KR, which have Hangul.

They come from the package pylopdf-fonts-ko (SIL Open Font License).
"""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from product_cls.core.errors import UserError


@lru_cache(maxsize=256)
def load_font(size: int, serif: bool) -> ImageFont.FreeTypeFont:
    """A font of ``size`` pixels.

    Raises:
        UserError: the package with the fonts is not installed.
    """
    return ImageFont.truetype(str(font_file(serif)), size, layout_engine=ImageFont.Layout.BASIC)


def font_file(serif: bool) -> Path:
    """The file of a font.

    Raises:
        UserError: the package with the fonts is not installed.
    """
    try:
        import pylopdf_fonts_ko as fonts
    except ImportError:
        raise UserError(
            "Drawing text needs the Korean fonts of the package pylopdf-fonts-ko, which is not "
            "installed: pip install pylopdf-fonts-ko."
        ) from None
    return Path(fonts.serif_path() if serif else fonts.sans_path())

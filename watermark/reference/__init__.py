"""Small models that come with the library, so that everything runs offline."""

from __future__ import annotations

from watermark.reference.language import SyntheticLanguage

__all__ = ["SyntheticLanguage"]

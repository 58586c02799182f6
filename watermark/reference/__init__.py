"""Small models and their loaders, so that everything runs offline."""

from __future__ import annotations

from watermark.reference.language import SyntheticLanguage

__all__ = ["SyntheticLanguage"]

"""Reading, writing and finding media files, with limits on what is read and metadata kept.

::

    picture = media.read("a.jpg")                   # upright, fully decoded, metadata in picture.info
    media.write(marked, "b.jpg", like=picture)      # the same EXIF, ICC profile, XMP and JPEG tables
"""

from __future__ import annotations

from watermark.media.files import Found, find, read, write
from watermark.media.pixels import Pixels

__all__ = ["Found", "Pixels", "find", "read", "write"]

"""``python -m watermark`` is the command ``watermark``."""

from watermark.cli import main

if __name__ == "__main__":
    main()

"""``python -m mhkd`` is the command ``mhkd``."""

from __future__ import annotations

from mhkd.cli import main

if __name__ == "__main__":
    main()

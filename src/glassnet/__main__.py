"""`python -m glassnet` is `glassnet`."""

from __future__ import annotations

from glassnet.cli import main

if __name__ == "__main__":
    main()

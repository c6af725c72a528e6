"""`python -m hack.image`: see image.py."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from hack.image import image
from hack.needs import MissingTools


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.image", description=image.__doc__)
    parser.add_argument("--tag", default="dev")
    parser.add_argument("--output", type=Path, help="copy the archive there")
    options = parser.parse_args()
    try:
        made = image.archive(options.tag)
    except (MissingTools, image.BuildFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(shutil.copy(made, options.output) if options.output else made)
    return 0


if __name__ == "__main__":
    sys.exit(main())

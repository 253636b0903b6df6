"""Tables, pictures and README.md again from the JSON files of the studies, without a model.

python benchmarks/paper/page.py [docs/isd-painn-paper]
"""

import argparse
from pathlib import Path

from study import ROOT, studies, write_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs" / "isd-painn-paper")
    folder = parser.parse_args().folder
    for study in studies(folder):
        study.write(folder)
    write_page(folder)


if __name__ == "__main__":
    main()

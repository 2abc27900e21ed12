"""Print what pyproject.toml asks for, one a line: for the build, at run time and in extras.

python .ci/requirements.py [EXTRA ...]    (only Python's standard library is used)
"""

import re
import sys
import tomllib
from pathlib import Path


def main(extras: list[str]) -> None:
    """Print the requirements; an extra that names another one of this project is followed."""
    pyproject = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    project = pyproject["project"]
    wanted = [*pyproject["build-system"]["requires"], "ninja", *project["dependencies"]]
    queue = list(extras)
    while queue:
        for requirement in project["optional-dependencies"][queue.pop()]:
            own = re.fullmatch(rf"{project['name']}\[(.+)\]", requirement)
            if own:
                queue += own[1].split(",")
            else:
                wanted.append(requirement)
    print("\n".join(dict.fromkeys(wanted)))


if __name__ == "__main__":
    main(sys.argv[1:])

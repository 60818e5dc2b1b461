"""Prints the lowest versions that `pyproject.toml` allows, for the dependencies and the named extras, one per line."""

import re
import sys
import tomllib
from pathlib import Path


def bounds(project: dict, extra: str) -> dict[str, str]:
    """The lower bound of each package of an extra, and of those extras that it includes."""
    found = {}
    for requirement in project["optional-dependencies"][extra]:
        if match := re.fullmatch(r"spikax\[(.+)\]", requirement):
            for name in match[1].split(","):
                found |= bounds(project, name)
        else:
            found |= bound(requirement)
    return found


def bound(requirement: str) -> dict[str, str]:
    match = re.fullmatch(r"([\w.-]+)(\[\w+\])?>=([\w.]+)", requirement)
    if match is None:
        raise SystemExit(f"pyproject.toml: `{requirement}` must have one lower bound, and nothing else: `name>=1.2`.")
    return {match[1]: match[3]}


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    lowest = {}
    for requirement in project["dependencies"]:
        lowest |= bound(requirement)
    for extra in sys.argv[1:]:
        lowest |= bounds(project, extra)
    print("\n".join(f"{name}=={version}" for name, version in lowest.items()))

"""Tables of measurements, printed one after the other."""

import argparse
from collections.abc import Callable, Mapping, Sequence

import jax
from against_eventax import machine


def title(columns: Sequence[str]) -> None:
    """Prints the head of a table."""
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def row(columns: Sequence[str]) -> None:
    """Prints a row of a table."""
    print("| " + " | ".join(columns) + " |", flush=True)


def main(tables: Mapping[str, Callable[[], None]], description: str) -> None:
    """The command line of a program: prints the tables that it names, by default all of them. Computes in float32."""
    jax.config.update("jax_enable_x64", False)
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"among {', '.join(tables)}; default: all")
    options = parser.parse_args()
    if not set(options.tables) <= set(tables):
        parser.error(f"no such table among {', '.join(tables)}: {' '.join(options.tables)}")
    print(machine(), flush=True)
    for name in options.tables or tables:
        tables[name]()

"""An extension of mkdocstrings: the constructors that dataclasses generate have no text of their own."""

from typing import Any

import griffe


class WithoutInit(griffe.Extension):
    """Removes the docstring that a generated `__init__` has from `object`."""

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        if func.name == "__init__" and func.docstring and func.docstring.value == object.__init__.__doc__:
            func.docstring = None

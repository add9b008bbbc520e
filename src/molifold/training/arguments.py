"""Arguments out of a recipe: what a function accepts is read from its signature, and checked before it is called."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import re
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pydantic


class RecipeError(ValueError):
    """A recipe that cannot be run: names every key, what came, and what was expected."""

    def __init__(self, problems: list[str], *, source: str = "recipe") -> None:
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


#: ``package.module:name``.
IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def imported(use: str, *, where: str, trust: Sequence[str] | None = None) -> Callable[..., Any]:
    """The callable that an import string names. Importing a module runs its code.

    Args:
        use: ``"package.module:name"``.
        where: key in the recipe, for the error.
        trust: packages or modules from which to import; None: all, as from a file that the user wrote.

    Raises:
        RecipeError: if it names nothing.
        PermissionError: if it lies outside ``trust``; nothing has been imported then.

    >>> imported("molifold.units:kT", where="flow.use").__name__
    'kT'
    """
    module_name, colon, name = use.partition(":")
    if not colon or not name:
        raise RecipeError([f"{where}: got {use!r}, expected 'package.module:name'"])
    if trust is not None and not any(module_name == t or module_name.startswith(f"{t}.") for t in trust):
        raise PermissionError(
            f"{where}: got {use!r}, code outside {', '.join(trust)}, which would be run; if you have read it and trust "
            f"it, say so with trust={module_name!r} (--trust {module_name})"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RecipeError([f"{where}: got {use!r}, but {module_name} cannot be imported ({error}); install it, "
                           "or add its folder to PYTHONPATH"]) from None  # fmt: skip
    found = getattr(module, name, None)
    if not callable(found):
        public = [n for n in dir(module) if n[0] != "_" and callable(getattr(module, n))]
        raise RecipeError([f"{where}: got {use!r}, but {module_name} has no {name!r}{_hint(name, public)}"])
    return found


def checked(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    *,
    where: str,
    provided: Collection[str] = (),
    trust: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Arguments for ``function``, validated against its signature and converted to its types.

    Where the function takes a callable, such as a network of the user's own, an import string names it.

    Args:
        function: what will be called.
        given: keys and values of a recipe.
        where: name of the section, for the errors.
        provided: parameters that come from elsewhere and may not be given.
        trust: as of ``imported``.

    Raises:
        RecipeError: naming every unknown key, wrong value and missing key.
        PermissionError: as of ``imported``.

    >>> def network(x, *, layers: int = 2, kind: typing.Literal["graph", "mlp"] = "mlp"): ...
    >>> checked(network, {"layers": 3}, where="flow", provided=["x"])
    {'layers': 3}
    >>> checked(network, {"layer": 3, "kind": "cnn"}, where="flow", provided=["x"])
    Traceback (most recent call last):
    molifold.training.arguments.RecipeError: recipe: flow.kind: got 'cnn', expected 'graph' or 'mlp'
    recipe: flow.layer: unknown key; did you mean 'layers'? Allowed: layers, kind
    """
    parameters = _parameters(function)
    fields: dict[str, Any] = {
        p.name: (Any if isinstance(p.annotation, str) else p.annotation, ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in provided
    }
    fields = {
        name: (Any if hint is inspect.Parameter.empty else hint, default) for name, (hint, default) in fields.items()
    }
    extra: typing.Literal["allow", "forbid"] = "allow" if any(p.kind is p.VAR_KEYWORD for p in parameters) else "forbid"
    config = pydantic.ConfigDict(extra=extra, arbitrary_types_allowed=True, protected_namespaces=(), strict=True)
    named = {
        name: imported(value, where=f"{where}.{name}", trust=trust)
        for name, value in given.items()
        if name in fields and _takes_callable(fields[name][0]) and _is_import_string(value)
    }
    fields |= dict.fromkeys(named, (Any, None))
    model = pydantic.create_model(where, __config__=config, **fields)
    return {**validated(model, given, where=where), **named}


def validated(model: type[pydantic.BaseModel], given: Mapping[str, Any], *, where: str = "") -> dict[str, Any]:
    """The given keys of ``model``, converted to its types; in JSON's sense strict: no text for numbers.

    Raises:
        RecipeError: naming every problem.
    """
    try:
        made = model.model_validate_json(json.dumps(given))
    except TypeError as error:
        raise RecipeError([f"{where}: {error}; recipes hold numbers, text, booleans, lists and tables"]) from None
    except pydantic.ValidationError as error:
        allowed = list(model.model_fields)
        # That a callable would do as well is said by the choices: a recipe names it by an import string.
        told = [e for e in error.errors() if e["type"] != "callable_type"]
        raise RecipeError(sorted({_problem(e, where, allowed) for e in told})) from None
    return {name: getattr(made, name) for name in given}


def _takes_callable(hint: Any) -> bool:
    return any(typing.get_origin(part) is Callable for part in (hint, *typing.get_args(hint)))


def _is_import_string(value: Any) -> bool:
    return isinstance(value, str) and IMPORT_STRING.fullmatch(value) is not None


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except (NameError, TypeError):  # a hint that is only imported for type checkers
        return list(inspect.signature(function).parameters.values())


def _problem(error: Any, where: str, allowed: list[str]) -> str:
    key = ".".join(filter(None, [where, str(error["loc"][0]) if error["loc"] else ""]))
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{key}: unknown key{_hint(str(error['loc'][-1]), allowed)} Allowed: {', '.join(allowed)}"
    if kind == "missing":
        return f"{key}: missing, expected a value"
    if kind == "value_error":
        return f"{where or 'recipe'}: {context['error']}" if not error["loc"] else f"{key}: {context['error']}"
    if kind == "literal_error":
        return f"{key}: got {error['input']!r}, expected {context['expected']}"
    expected = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{key}: got {error['input']!r}, expected {expected}"


def _hint(name: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {close[0]!r}?" if close else "."

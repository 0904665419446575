"""The template engine itself: how much of Jinja2 is allowed. Only `templates` imports it.

Jinja's sandbox keeps templates from Python's objects; it bounds neither memory nor time. So a part of the language
only is accepted, and whatever it computes is counted beforehand: see `budget`.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, nodes, pass_context
from jinja2.exceptions import TemplateRuntimeError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.lexer import Token, TokenStream
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS as JINJA_TESTS

from crmd.crm.templating.budget import MAX_OUTPUT_CHARS, MAX_TEMPLATE_CHARS, Budget, check_number, too_large
from crmd.crm.templating.errors import MissingVariable, TemplateError
from crmd.crm.templating.language import BUILT, CONCAT, FILTERS, HANDLED, MAX_TOKENS, STEPS, narrow

KEPT_TEMPLATES = 256
STEP_WORK = 10
"""Of one step of a loop, in which names are looked up and fields are taken uncounted."""
SHOWN_NAME_CHARS = 200

_budget: ContextVar[Budget] = ContextVar("crmd_template_budget")
_FAILURES = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError),
    *(TypeError, ValueError),
)
"""What Jinja and Python raise where a template's values do not fit what is done with them."""


class Renderer:
    """Checks and renders; keeps the templates that it compiled last."""

    def __init__(self) -> None:
        self._environments = {html: _environment(html) for html in (False, True)}
        self._compile = functools.lru_cache(KEPT_TEMPLATES)(self._compile_now)
        self._lock = threading.Lock()

    def check(self, text: str) -> None:
        """Compiles a template; raises TemplateError that says what is wrong and in which line."""
        with self._one_at_a_time():
            self._compile(text, False)

    def names(self, text: str) -> frozenset[str]:
        """The variables that it reads. Raises TemplateError."""
        self.check(text)
        with self._one_at_a_time():
            return frozenset(find_undeclared_variables(self._environments[False].parse(text)))

    def render(self, text: str, variables: Mapping[str, Any], *, html: bool) -> str:
        """The filled text. Raises TemplateError."""
        with self._one_at_a_time():
            return self._render(text, variables, html)

    def _one_at_a_time(self) -> AbstractContextManager[Any]:
        """One thread computes at a time: each of several would hold the event loop up for 5 ms."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._lock
        return nullcontext()  # the loop waits for none of them

    def _render(self, text: str, variables: Mapping[str, Any], html: bool) -> str:
        template = self._compile(text, html)
        kept = _budget.set(Budget())
        try:
            return _joined(template.generate(dict(variables)))
        except TemplateError:
            raise
        except UndefinedError as error:
            raise MissingVariable(str(error)) from None
        except TemplateRuntimeError as error:
            raise TemplateError(f"the template cannot be filled: {error}") from None
        except _FAILURES as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise TemplateError(f"the template cannot be filled: {reason}") from None
        finally:
            _budget.reset(kept)

    def _compile_now(self, text: str, html: bool) -> Template:
        if len(text) > MAX_TEMPLATE_CHARS:
            raise TemplateError(f"the template has {len(text):,} characters; at most {MAX_TEMPLATE_CHARS:,} go")
        try:
            return self._environments[html].from_string(text)
        except TemplateSyntaxError as error:
            raise TemplateError(f"line {error.lineno}: {error.message}") from None
        except (RecursionError, MemoryError, SyntaxError, OverflowError):
            raise TemplateError("the template nests too deeply") from None
        except ValueError as error:  # a number with thousands of digits
            raise TemplateError(str(error)) from None


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, narrowed."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    intercepted_unops = frozenset({"+", "-"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return narrow(super()._parse(source, name, filename), self)

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> Any:
        """A text that is far too complex is refused before a tree is made of it."""
        stream = super()._tokenize(source, name, filename, state)
        return TokenStream(_few(stream), name, filename)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Text times a number, and `%` on text, make texts of any size; numbers only are taken."""
        _budget.get().charge(1)
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            _check_sum((left, right))
            return _budget.get().built(left + right)
        for operand in (left, right):
            _check_operand(operator, operand)
        result = super().call_binop(context, operator, left, right)
        check_number(result)
        return result

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        """Signs are for numbers; raises TemplateError for anything else."""
        _budget.get().charge(1)
        _check_operand(operator, arg)
        return super().call_unop(context, operator, arg)

    def call(self, context: Context, method: Any, *args: Any, **kwargs: Any) -> Any:
        """What goes in and what comes out is counted. Views of dictionaries become lists, as filters take."""
        budget, given = _budget.get(), (*args, *kwargs.values())
        name, owner = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        if name == "get":
            budget.handle(*given)
            return super().call(context, method, *args, **kwargs)
        _charge_strip(budget, (owner, *given))
        result = super().call(context, method, *args, **kwargs)
        return budget.built(list(result) if name in ("items", "keys", "values") else result)


class _Undefined(StrictUndefined):
    """A missing variable by its name alone."""

    @property
    def _undefined_message(self) -> str:
        name = self._undefined_name
        return name[:SHOWN_NAME_CHARS] if isinstance(name, str) else str(name)[:SHOWN_NAME_CHARS]


def _environment(html: bool) -> _Environment:
    environment = _Environment(
        undefined=_Undefined,
        autoescape=html,
        finalize=_finalize,
        keep_trailing_newline=True,
        optimized=False,  # constants would be computed while compiling, before anything is bounded
        cache_size=0,
    )
    own = {"join": _join, "replace": _replace, "round": _round, "int": _int}
    kept = {name: own.get(name) or JINJA_FILTERS[name] for name in FILTERS}
    bounds = {CONCAT: _concat, STEPS: _steps, HANDLED: _handled, BUILT: _built}
    environment.filters = {name: _counted(name, function) for name, function in kept.items()} | bounds
    environment.tests = {name: _counted(name, function) for name, function in JINJA_TESTS.items()}
    environment.globals.clear()
    return environment


def _few(stream: TokenStream) -> Iterator[Token]:
    for count, token in enumerate(stream):
        if count > MAX_TOKENS:
            raise TemplateSyntaxError("the template is too complex", token.lineno)
        yield token


def _joined(chunks: Iterable[str]) -> str:
    parts: list[str] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_OUTPUT_CHARS:
            too_large()
        parts.append(chunk)
    return "".join(parts)


@pass_context  # without it, constants would be shown while compiling
def _finalize(context: Context, value: Any) -> Any:
    return _printable(value)


def _printable(value: Any) -> Any:
    """What may be printed: a list or a dictionary is never meant for a reader."""
    if isinstance(value, str):
        _budget.get().charge(len(value))
        return value
    if isinstance(value, int | float | StrictUndefined):
        return value
    if value is None:
        return ""
    raise TemplateError(f"a {type(value).__name__} cannot be shown; pick one of its values, or use |join(', ')")


def _counted(name: str, function: Any) -> Any:
    """A filter or test whose values are counted before it runs, and what it makes after."""
    quick, charge = name in _QUICK, _COSTS.get(name, _charge_all)

    @functools.wraps(function)  # that also keeps what it wants to be passed
    def call(*args: Any, **kwargs: Any) -> Any:
        budget = _budget.get()
        if quick:
            budget.charge(1)
            return function(*args, **kwargs)
        charge(budget, (*args, *kwargs.values()))
        return budget.built(function(*args, **kwargs))

    return call


def _charge_all(budget: Budget, given: tuple[Any, ...]) -> None:
    budget.handle(*given)


def _charge_sort(budget: Budget, given: tuple[Any, ...]) -> None:
    """Each value is compared some log2(n) times, and looked into for each part of an attribute's name."""
    budget.handle(*given)
    for values in given:
        if isinstance(values, list | tuple | dict | str):
            others = sum(budget.weight(other) for other in given if other is not values)
            budget.charge(len(values) * (len(values).bit_length() + others))
            budget.charge(budget.weight(values) * len(values).bit_length() // 4)


def _charge_strip(budget: Budget, given: tuple[Any, ...]) -> None:
    """Each letter of a text may be sought among those given: 16 at a time, by the processor."""
    text, *others = given
    budget.handle(*given)
    budget.charge(budget.weight(text) * sum(map(budget.weight, others)) // 16)


def _charge_division(budget: Budget, given: tuple[Any, ...]) -> None:
    """These tests are the operator `%`, which fills texts in."""
    budget.charge(1)
    for operand in given:
        _check_operand("%", operand)


_COSTS: dict[str, Callable[[Budget, tuple[Any, ...]], None]] = {
    **dict.fromkeys(("sort", "dictsort", "unique"), _charge_sort),
    **dict.fromkeys(("divisibleby", "even", "odd"), _charge_division),
    "trim": _charge_strip,
}
"""Of filters and tests that do more than go once through what they are given."""
_QUICK = frozenset(
    {
        *("abs", "count", "d", "default", "first", "last", "length", "round"),
        *("boolean", "callable", "defined", "escaped", "false", "filter", "integer", "iterable"),
        *("mapping", "none", "number", "sameas", "sequence", "test", "true", "undefined"),
    }
)
"""Filters and tests that only look at a value, or give what they were given."""


def _handled(value: Any) -> Any:
    _budget.get().handle(value)
    return value


def _built(value: Any) -> Any:
    return _budget.get().built(value)


def _concat(parts: list[Any]) -> str:
    texts = [str(_printable(part)) for part in parts]
    _check_sum(texts)
    return str(_budget.get().built("".join(texts)))


def _steps(values: Any) -> Iterator[Any]:
    budget = _budget.get()
    for value in values:
        budget.charge(STEP_WORK)
        yield value


def _join(values: Any, separator: Any = "") -> str:
    texts, between = [str(_printable(value)) for value in values], str(separator)
    _check_sum(texts, len(between) * len(texts))
    return between.join(texts)


def _replace(text: Any, old: Any, new: Any) -> str:
    whole, searched, given = str(text), str(old), str(new)
    _check_sum((whole,), whole.count(searched) * len(given))
    return whole.replace(searched, given)


def _round(value: Any, precision: Any = 0) -> float:
    return round(float(value), min(max(int(precision), 0), 10))


def _int(value: Any, default: Any = 0, base: Any = 10) -> Any:
    found = JINJA_FILTERS["int"](value, default, base)
    check_number(found)
    return found


def _check_operand(operator: str, value: Any) -> None:
    if not isinstance(value, int | float | StrictUndefined):
        raise TemplateError(f"{operator} is for numbers; ~ puts texts together")
    check_number(value)


def _check_sum(texts: Iterable[str], more: int = 0) -> None:
    if sum(map(len, texts)) + more > MAX_OUTPUT_CHARS:
        too_large()

"""The template engine itself: what of Jinja2 is allowed, and how much of it. Only `templates` imports it.

Jinja's sandbox keeps templates from Python's objects; it bounds neither memory nor time. So a part of the language
only is accepted, each value is bounded in size, and a template's processor time is counted.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import TemplateRuntimeError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from crmd.handlers.template_language import CONCAT, FILTERS, STEPS, narrow
from crmd.handlers.templates import MAX_OUTPUT_CHARS, MAX_TEMPLATE_CHARS, MissingVariable, TemplateError

CPU_SECONDS = 0.25
"""Processor time for one text; an ordinary one takes 20 µs."""
KEPT_TEMPLATES = 256

_deadline: ContextVar[float] = ContextVar("crmd_template_deadline")


class Engine:
    """Checks and renders; keeps the templates that it compiled last."""

    def __init__(self) -> None:
        self._environments = {html: _environment(html) for html in (False, True)}
        self._compile = functools.lru_cache(KEPT_TEMPLATES)(self._compile_now)

    def check(self, text: str) -> None:
        """Raises TemplateError."""
        self._compile(text, False)

    def names(self, text: str) -> frozenset[str]:
        """The variables that it reads. Raises TemplateError."""
        self.check(text)
        return frozenset(find_undeclared_variables(self._environments[False].parse(text)))

    def render(self, text: str, variables: Mapping[str, Any], *, html: bool) -> str:
        """The filled text. Raises TemplateError."""
        template = self._compile(text, html)
        kept = _deadline.set(time.thread_time() + CPU_SECONDS)
        try:
            return _joined(template.generate(dict(variables)))
        except TemplateError:
            raise
        except UndefinedError as error:
            raise MissingVariable(str(error)) from None
        except TemplateRuntimeError as error:
            raise TemplateError(f"the template cannot be filled: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise TemplateError(f"the template cannot be filled: {reason}") from None
        finally:
            _deadline.reset(kept)

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

    intercepted_binops = frozenset({"+", "*", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return narrow(super()._parse(source, name, filename), self)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Text times a number, and `%` on text, make texts of any size; numbers only are taken."""
        _check_time()
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            _check_sum((left, right))
            return left + right
        if not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise TemplateError(f"{operator} is for numbers; ~ puts texts together")
        return super().call_binop(context, operator, left, right)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """What a method gives is bounded too."""
        _check_time()
        return _bounded(super().call(*args, **kwargs))


class _Undefined(StrictUndefined):
    """A missing variable by its name alone."""

    @property
    def _undefined_message(self) -> str:
        return str(self._undefined_name)


def _environment(html: bool) -> _Environment:
    environment = _Environment(
        undefined=_Undefined,
        autoescape=html,
        finalize=_shown,
        keep_trailing_newline=True,
        optimized=False,  # constants would be computed while compiling, before anything is bounded
        cache_size=0,
    )
    own = {"join": _join, "replace": _replace, "round": _round}
    kept = {name: own.get(name) or _sized(JINJA_FILTERS[name]) for name in FILTERS}
    environment.filters = {**kept, CONCAT: _concat, STEPS: _steps}
    environment.globals.clear()
    return environment


def _joined(chunks: Iterable[str]) -> str:
    parts: list[str] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_OUTPUT_CHARS:
            _too_large()
        parts.append(chunk)
    return "".join(parts)


def _shown(value: Any) -> Any:
    """What may be printed: a list or a dictionary is never meant for a reader."""
    if isinstance(value, str | int | float | StrictUndefined):
        return value
    if value is None:
        return ""
    raise TemplateError(f"a {type(value).__name__} cannot be shown; pick one of its values, or use |join(', ')")


def _sized(function: Any) -> Any:
    """A filter of Jinja's whose result is bounded. `wraps` keeps what it wants to be passed."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        _check_time()
        return _bounded(function(*args, **kwargs))

    return call


def _concat(parts: list[Any]) -> str:
    _check_time()
    texts = [str(_shown(part)) for part in parts]
    _check_sum(texts)
    return "".join(texts)


def _steps(values: Any) -> Iterator[Any]:
    for value in values:
        _check_time()
        yield value


def _join(values: Any, separator: Any = "") -> str:
    _check_time()
    texts, between = [str(_shown(value)) for value in _bounded(values)], str(separator)
    _check_sum(texts, len(between) * len(texts))
    return between.join(texts)


def _replace(text: Any, old: Any, new: Any) -> str:
    _check_time()
    whole, searched, given = str(text), str(old), str(new)
    _check_sum((whole,), whole.count(searched) * len(given))
    return whole.replace(searched, given)


def _round(value: Any, precision: Any = 0) -> float:
    return round(float(value), min(max(int(precision), 0), 10))


def _bounded(value: Any) -> Any:
    if isinstance(value, Iterator):
        value = list(value)
    if isinstance(value, str | list | tuple | dict) and len(value) > MAX_OUTPUT_CHARS:
        _too_large()
    return value


def _check_sum(texts: Iterable[str], more: int = 0) -> None:
    if sum(map(len, texts)) + more > MAX_OUTPUT_CHARS:
        _too_large()


def _check_time() -> None:
    if time.thread_time() > _deadline.get():
        raise TemplateError("the template takes too long")


def _too_large() -> NoReturn:
    raise TemplateError(f"what the template makes is over {MAX_OUTPUT_CHARS:,} characters")

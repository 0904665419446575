"""Which parts of Jinja2's language templates may use, and where `engine` sets its limits."""

from __future__ import annotations

from typing import Any, NoReturn, cast

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.visitor import NodeTransformer

MAX_NODES = 2_000
MAX_TOKENS = 12_000
"""So many come before the tree is made; no tree of `MAX_NODES` needs more, but for texts between them."""
MAX_DEPTH = 60
"""How deep a template nests: Python's compiler has a limit of its own, and reports it less kindly."""

FILTERS = frozenset(
    {
        *(
            "abs",
            "capitalize",
            "count",
            "d",
            "default",
            "dictsort",
            "e",
            "escape",
            "first",
            "float",
            "int",
            "join",
        ),
        *("last", "length", "list", "lower", "replace", "reverse", "round", "sort", "string", "title", "trim"),
        *("truncate", "unique", "upper", "urlencode", "wordcount"),
    }
)
METHODS = frozenset(
    {
        *("capitalize", "endswith", "get", "items", "keys", "lower", "lstrip", "removeprefix", "removesuffix"),
        *("rstrip", "split", "startswith", "strip", "title", "upper", "values"),
    }
)
"""Of strings and dictionaries. What they give is about as long as what they are given."""

_ALLOWED: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign),
    *(nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Call, nodes.Filter, nodes.Test, nodes.CondExpr),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Neg, nodes.Pos),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
)
_TAGS: dict[type[nodes.Node], str] = {
    nodes.AssignBlock: "{% set %} … {% endset %}",
    nodes.Block: "{% block %}",
    nodes.CallBlock: "{% call %}",
    nodes.Extends: "{% extends %}",
    nodes.FilterBlock: "{% filter %}",
    nodes.FromImport: "{% from %}",
    nodes.Import: "{% import %}",
    nodes.Include: "{% include %}",
    nodes.Macro: "{% macro %}",
    nodes.Pow: "**",
    nodes.ScopedEvalContextModifier: "{% autoescape %}",
    nodes.Scope: "{% autoescape %}",
    nodes.With: "{% with %}",
}
SMALL_CHARS = 100
"""A text of the template's own that is no longer is not counted where it is compared."""
CONCAT = "crmd concat"
STEPS = "crmd steps"
HANDLED = "crmd handled"
BUILT = "crmd built"
"""Filters that the parser puts in place; no template can spell their names."""


def narrow(tree: nodes.Template, environment: Environment) -> nodes.Template:
    """The tree with the bounds in place. Raises TemplateSyntaxError for what is not allowed."""
    _Inspection().run(tree)
    bounded: nodes.Template = _Bounding(environment).visit(tree)
    return bounded


class _Inspection:
    """Looks at each node once; raises TemplateSyntaxError for what is not allowed."""

    def __init__(self) -> None:
        self._seen = 0

    def run(self, tree: nodes.Node) -> None:
        """Without recursion, so that any depth is survived."""
        waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
        while waiting:
            node, depth = waiting.pop()
            self._seen += 1
            if self._seen > MAX_NODES or depth > MAX_DEPTH:
                _refuse(node, "the template is too complex")
            self._check(node)
            waiting += [(child, depth + 1) for child in node.iter_child_nodes()]

    def _check(self, node: nodes.Node) -> None:
        if not isinstance(node, _ALLOWED):
            _refuse(node, f"{_TAGS.get(type(node), type(node).__name__)} cannot be used here")
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            _refuse(node, f"no filter {node.name}; there are {', '.join(sorted(FILTERS))}")
        if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            _refuse(node, f"{node.attr} cannot be used here")
        if isinstance(node, nodes.Call):
            self._look_at_call(node)
        if isinstance(node, nodes.For) and node.recursive:
            _refuse(node, "a loop cannot be recursive here")

    def _look_at_call(self, node: nodes.Call) -> None:
        called = node.node
        name = called.attr if isinstance(called, nodes.Getattr) else getattr(called, "name", "this")
        if not isinstance(called, nodes.Getattr) or name not in METHODS:
            _refuse(node, f"{name}() cannot be called here; what can is {', '.join(sorted(METHODS))} of a value")
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            _refuse(node, "* and ** cannot be used in calls")


class _Bounding(NodeTransformer):
    """Puts the bounds where Jinja leaves no other hook.

    That is `~`, the steps of loops, what is compared or is a key (all of it may be gone through), and what is
    built out of other values. Operators, filters, tests and calls are bounded where they are called.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def visit_Concat(self, node: nodes.Concat, *args: Any, **kwargs: Any) -> nodes.Node:
        """As a filter, which sees how long the parts are."""
        self.generic_visit(node)
        return self._filter(nodes.List(node.nodes, lineno=node.lineno), CONCAT, node)

    def visit_For(self, node: nodes.For, *args: Any, **kwargs: Any) -> nodes.Node:
        """As a loop over what counts its steps."""
        self.generic_visit(node)
        node.iter = self._filter(cast(nodes.Expr, node.iter), STEPS, node)
        return node

    def visit_Compare(self, node: nodes.Compare, *args: Any, **kwargs: Any) -> nodes.Node:
        """Of handled values."""
        self.generic_visit(node)
        node.expr = self._handled(node.expr)
        for operand in node.ops:
            operand.expr = self._handled(operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair, *args: Any, **kwargs: Any) -> nodes.Node:
        """With a handled key."""
        self.generic_visit(node)
        node.key = self._handled(node.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem, *args: Any, **kwargs: Any) -> nodes.Node:
        """By a handled key; a slice is a value that is built."""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return self._filter(node, BUILT, node)
        node.arg = self._handled(node.arg)
        return node

    def visit_List(self, node: nodes.List, *args: Any, **kwargs: Any) -> nodes.Node:
        """As a value that is built."""
        self.generic_visit(node)
        return self._filter(node, BUILT, node)

    def visit_Dict(self, node: nodes.Dict, *args: Any, **kwargs: Any) -> nodes.Node:
        """As a value that is built."""
        self.generic_visit(node)
        return self._filter(node, BUILT, node)

    def visit_Tuple(self, node: nodes.Tuple, *args: Any, **kwargs: Any) -> nodes.Node:
        """As a value that is built, unless it names what is assigned to."""
        self.generic_visit(node)
        return self._filter(node, BUILT, node) if node.ctx == "load" else node

    def _handled(self, node: nodes.Expr) -> nodes.Expr:
        small = isinstance(node, nodes.Const) and (
            not isinstance(node.value, str) or len(node.value) <= SMALL_CHARS
        )
        return node if small else self._filter(node, HANDLED, node)

    def _filter(self, node: nodes.Expr, name: str, place: nodes.Node) -> nodes.Filter:
        made = nodes.Filter(node, name, [], [], None, None, lineno=place.lineno)
        made.set_environment(self._environment)
        return made


def _refuse(node: nodes.Node, reason: str) -> NoReturn:
    raise TemplateSyntaxError(reason, node.lineno or 1)  # what Jinja puts in itself has no line

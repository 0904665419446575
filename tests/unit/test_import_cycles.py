"""No modules of crmd import each other in a circle, imports for types counted."""

from __future__ import annotations

import grimp


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("crmd", exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 300
    assert not [sorted(circle) for circle in circles(imports) if len(circle) > 1]


def test_circles_are_found() -> None:
    imports = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d", "f"}, "f": set[str]()}
    assert circles(imports) == {frozenset("abc"), frozenset("de"), frozenset("f")}


def circles(imports: dict[str, set[str]]) -> set[frozenset[str]]:
    """The strongly connected components of a graph, by Tarjan's algorithm."""
    found: set[frozenset[str]] = set()
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in imports[node]:
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            at = stack.index(node)
            found.add(frozenset(stack[at:]))
            del stack[at:]

    for node in imports:
        if node not in number:
            visit(node)
    return found

"""Compares what HTTP answers with what its description says."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import BaseModel

from crmd.http.answers import ProblemAnswer
from crmd.http.openapi import model_of, problem_statuses
from crmd.http.routes import Route, Success


class AnswerCheck:
    """Knows the described routes of a server."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(_pattern(route.path), route) for route in routes]

    def check(self, method: str, path: str, status: int, media_type: str, text: str) -> None:
        """Fails where an answer is not as described. `path` is without the prefix."""
        route = self._find(method, path.partition("?")[0])
        if route is None or not route.summary:
            return
        where = f"{method} {path}: {status} {text[:500]}"
        answer = route.answers.get(status)
        if answer is None:
            assert status in problem_statuses(route), f"not described: {where}"
            assert media_type == "application/problem+json", where
            problem = ProblemAnswer.model_validate_json(text)
            assert problem.status == status, where
        elif isinstance(answer, Success):
            assert media_type == answer.media_type or not text, where
            if answer.body:
                _fits(model_of(answer.body), text, where)
        else:
            assert media_type == "application/json", where
            _fits(model_of(answer), text, where)

    def _find(self, method: str, path: str) -> Route | None:
        found = (route for pattern, route in self._routes if route.method == method and pattern.fullmatch(path))
        return next(found, None)


def _fits(model: type[BaseModel], text: str, where: str) -> None:
    try:
        model.model_validate_json(text)
    except ValueError as error:
        raise AssertionError(f"{where}\n{error}") from None


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"{\w+}", path)
    return re.compile("[^/]+".join(map(re.escape, parts)))

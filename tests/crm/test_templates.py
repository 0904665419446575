"""Templates: what they can do, that they reach nothing else, and that no template costs much."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmd.crm.templating import engine as template_engine
from crmd.crm.templating.budget import MAX_OUTPUT_CHARS, MAX_TEMPLATE_CHARS
from crmd.crm.templating.errors import MissingVariable, TemplateError
from crmd.crm.templating.templates import check, contact_variables, has_variables, names, render

CONTACT: dict[str, Any] = {
    "name": "bob smith",
    "city": "Rome",
    "price": 2.5,
    "count": 3,
    "vip": True,
    "tags": ["a", "b"],
    "address": {"street": "Via Appia", "items": "yes"},
    "nothing": None,
}


@dataclass
class Somebody:
    phone: str = "+491511234567"
    name: str | None = "Bob"
    email: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def refusal(text: str, variables: dict[str, Any] | None = None, *, html: bool = False) -> str:
    """Why a text is not filled; that takes no longer than a template may."""
    began = time.thread_time()
    with pytest.raises(TemplateError) as caught:
        render(text, CONTACT if variables is None else variables, html=html)
    assert time.thread_time() - began < 3.0
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain } text {", "plain } text {"),
        ("Hello {{ name }}", "Hello bob smith"),
        ("{{ name.split()[0]|title }}", "Bob"),
        ("{{ name|title }}, {{ city|upper }}", "Bob Smith, ROME"),
        ("{{ price * count }}", "7.5"),
        ("{{ '%s' }}", "%s"),
        ("{{ count % 2 }}", "1"),
        ("{{ 'a' + city }}{{ 'b' ~ count }}", "aRomeb3"),
        ("{% if vip %}dear{% else %}hi{% endif %}", "dear"),
        ("{{ 'dear' if vip }}", "dear"),
        ("{% for tag in tags %}{{ loop.index }}{{ tag }} {% endfor %}", "1a 2b "),
        ("{{ tags|join('-') }} {{ tags|length }}", "a-b 2"),
        ("{{ address.street }} {{ address['street'] }}", "Via Appia Via Appia"),
        ("{{ missing|default('there') }} {{ missing is defined }}", "there False"),
        ("{% set first = name.split()[0] %}{{ first }}", "bob"),
        ("{{ nothing }}", ""),
        ("{{ 10.126|round(2) }}", "10.13"),
        ("{{ city|replace('R', 'D') }}", "Dome"),
        ("line\n", "line\n"),
        ("{# a note #}x\n{{ city }}\n", "x\nRome\n"),
        ("{% raw %}{{ name }}{% endraw %}", "{{ name }}"),
        ("{{ tags|reverse|join }}", "ba"),
    ],
)
def test_what_templates_can_do(text: str, filled: str) -> None:
    check(text)
    assert render(text, CONTACT) == filled


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{{ surname }}", "surname"),
        ("{{ surname|upper }}", "surname"),
        ("{{ 'x' ~ surname }}", "surname"),
        ("{% if surname %}x{% endif %}", "surname"),
        ("{% for x in surname %}x{% endfor %}", "surname"),
        ("{{ address.town }}", "town"),
        ("{{ surname.first }}", "surname"),
        ("{{ 1 if not vip }}", "vip"),
    ],
)
def test_a_missing_variable_is_named(text: str, name: str) -> None:
    check(text)
    with pytest.raises(MissingVariable, match=f"the variable {name} is missing") as caught:
        render(text, {"address": {}})
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ name ", "line 1: unexpected end of template"),
        ("\n\n{% if %}", "line 3: "),
        ("{{ name|shout }}", "no filter shout"),
        ("{{ name|safe }}", "no filter safe"),
        ("{% include 'x' %}", "{% include %} cannot be used"),
        ("{% import 'x' as y %}", "{% import %} cannot be used"),
        ("{% from 'x' import y %}", "{% from %} cannot be used"),
        ("{% extends 'x' %}", "{% extends %} cannot be used"),
        ("{% block x %}{% endblock %}", "{% block %} cannot be used"),
        ("{% macro x() %}{% endmacro %}", "{% macro %} cannot be used"),
        ("{% call x() %}{% endcall %}", "{% call %} cannot be used"),
        ("{% autoescape false %}{{ name }}{% endautoescape %}", "{% autoescape %} cannot be used"),
        ("{% set x %}{{ name }}{% endset %}", "{% endset %} cannot be used"),
        ("{% for x in range(10) %}{% endfor %}", "range() cannot be called"),
        ("{% for x in tags recursive %}{% endfor %}", "recursive"),
        ("{{ lipsum(n=100000) }}", "lipsum() cannot be called"),
        ("{{ 'x'.ljust(10) }}", "ljust() cannot be called"),
        ("{{ '{0.__class__}'.format(name) }}", "format() cannot be called"),
        ("{{ 2 ** 3 }}", "** cannot be used"),
        ("{{ name.upper(*tags) }}", "* and ** cannot be used in calls"),
        ("{{ (name)(1) }}", "cannot be called"),
        ("{{ " + "9" * 5000 + " }}", "Exceeds the limit"),
        ("{% do x %}", "unknown tag 'do'"),
        ("x" * MAX_TEMPLATE_CHARS + "{{ name }}", "at most 65,536"),
        ("{{ a }}" * 2000, "too complex"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "too deeply"),
        ("{{ " + "not " * 100 + "1 }}", "too complex"),
        ("{% if 1 %}" * 70 + "{% endif %}" * 70, "too complex"),
    ],
)
def test_a_wrong_template_is_refused_before_it_is_used(text: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        check(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{{ name.__class__ }}",
        "{{ name['__class__'] }}",
        "{{ tags['__len__'] }}",
        "{{ name|attr('__class__') }}",
        "{{ tags|map(attribute='__class__')|list }}",
        "{{ self.__init__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ self }}",
        "{{ loop }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ cycler }}",
        "{{ namespace() }}",
        "{{ dict }}",
        "{{ joiner }}",
        "{% for x in tags %}{{ loop.__class__ }}{% endfor %}",
        "{% for x in tags %}{{ loop }}{% endfor %}",
        "{% for x in tags %}{{ loop._iterator }}{% endfor %}",
        "{% for x in tags %}{{ loop['_iterator'] }}{% endfor %}",
        "{{ name.upper }}",
        "{{ name.upper['__self__'] }}",
        "{{ tags.append('x') }}",
        "{{ address.update({'x': 1}) }}",
        "{{ address.pop('street') }}",
        "{{ address }}",
        "{{ tags }}",
        "{{ ''.join }}",
        "{{ name|format('__class__') }}",
        "{{ name|tojson }}",
        "{% set ns.x = 1 %}",
        "{{ missing.__class__ }}",
        "{{ missing['__class__'] }}",
        "{{ url_for }}",
        "{{ config }}",
    ],
)
def test_nothing_but_the_values_is_reached(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 1000000000 }}",
        "{{ tags * 1000000000 }}",
        "{{ tags + tags }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ name|center(1000000000) }}",
        "{{ name|indent(1000000000) }}",
        "{{ name|round(1000000000) }}",
        "{{ 1|round(10000000000, 'ceil') }}",
        "{{ long" + " ~ long" * 300 + " }}",
        "{{ long" + " + long" * 50 + " }}",
        "{{ long" + "|replace('x', 'xxxxxxxx')" * 20 + " }}",
        "{{ long" + "|replace('', long)" * 5 + " }}",
        "{{ long" + "|join('xxxxxxxx')" * 20 + " }}",
        "{{ long" + "|list|join(long)" * 3 + " }}",
        "{{ symbols" + "|urlencode" * 50 + " }}",
        "{% set a = long %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
        "{% set a = [long] %}" + "{% set a = [a|string] %}" * 50 + "{{ a[0] }}",
        "{% set a = symbols %}" + "{% set a = [a]|string %}" * 40 + "{{ a }}",
        "{{ long }}" * 100,
        "{% for a in long %}{% for b in long %}{{ long }}{% endfor %}{% endfor %}",
        "{% for a in long %}{% for b in long %}{% for c in long %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in long %}{% for b in long %}{{ long|upper|length }}{% endfor %}{% endfor %}",
        "{% for a in long for b in long %}{% endfor %}",
        "{% for a in long if long|sort|unique|list %}{% endfor %}",
        "{{ [" + "long, " * 1000 + "]|join }}",
        "{{ [" + "long, " * 1000 + "]|string }}",
        "{{ {'a': long ~ long ~ long}|string|list|string|list|string|list|string }}",
    ],
)
def test_no_template_takes_much_memory_or_time(text: str) -> None:
    refusal(text, {**CONTACT, "long": "x" * 20_000, "symbols": "\\'\"" * 4000}, html=len(text) % 2 == 0)


NESTED = "{% set a = ['x'] %}" + "{% set a = [a, a] %}" * 30
NESTED_TUPLES = "{% set a = ('x',) %}" + "{% set a = (a, a) %}" * 30
NESTED_DICTS = "{% set a = {'x': 1} %}" + "{% set a = {'l': a, 'r': a} %}" * 30
# As large as one value may be, twice.
TWO_LARGE = "".join(f"{{% set {n} = ('x',) %}}" + f"{{% set {n} = ({n}, {n}) %}}" * 16 for n in "ab")
HUGE = "{% set m = 3 %}" + "{% set m = m * m %}" * 40


@pytest.mark.parametrize(
    "text",
    [
        NESTED + "{{ a == a }}",
        NESTED + "{{ a|string }}",
        NESTED + "{{ missing[a] }}",
        NESTED + "{{ [a]|join }}",
        NESTED_TUPLES + "{{ {a: 1}|length }}",
        NESTED_TUPLES + "{{ address[a] }}",
        NESTED_TUPLES + "{{ [a]|unique|list|length }}",
        NESTED_DICTS + "{{ a == a }}",
        "{% set a = 'x' %}" + "{% set a = [a, a]|list %}" * 30 + "{{ a < a }}",
        "{% set a = 'x' %}" + "{% set a = [a, a][:] %}" * 30 + "{{ a is eq a }}",
        "{% set a = 'x' %}" + "{% set a = {'k': a, 'l': a}.items() %}" * 30 + "{{ a in [a] }}",
        TWO_LARGE + "{% for x in ints %}{{ a == b }}{% endfor %}",
        TWO_LARGE + "{% for x in ints %}{{ a is ne b }}{% endfor %}",
        TWO_LARGE + "{% for x in ints %}{{ a in [b] }}{% endfor %}",
        TWO_LARGE + "{% for x in ints %}{{ {a: 1}|length }}{% endfor %}",
        TWO_LARGE + "{% for x in ints %}{{ address[a]|default('') }}{% endfor %}",
        TWO_LARGE + "{% for x in ints %}{{ address.get(a) }}{% endfor %}",
        HUGE + "{{ m % 7 }}",
        HUGE + "{{ m // 7 }}",
        "{% set m = 3 %}" + "{% for x in ints %}{% set m = m + m %}{{ m * m * m * m * m }}{% endfor %}" + HUGE,
        "{{ big % 3 }}",
        "{{ big // 3 }}",
        "{{ big - 1 }}",
        "{{ -big }}",
        "{{ big is divisibleby 3 }}",
        "{{ 3 is divisibleby big }}",
        "{{ long|replace('x', 'f')|int(0, 16) }}",
        "{{ 0x" + "f" * 60_000 + " % 7 }}",
        "{{ '%1000000000d' is divisibleby 1 }}",
        "{{ '%1000000000d' is odd }}",
        "{{ '%1000000000d' is even }}",
        "{{ long.strip(long ~ 'y') }}" * 50,
        "{{ long|trim(long ~ 'y') }}" * 50,
        "{{ long|list|sort(attribute='" + "0." * 2_000 + "0')|length }}",
        "{{ long|list|unique(attribute='" + "0." * 2_000 + "0')|list|length }}",
        "{% for x in ints %}{{ ints|sort|length }}{% endfor %}",
        "{% for x in ints %}{{ x in ints }}{% endfor %}",
        "{% for x in ints %}{{ loop|list|length }}{% endfor %}",
        "{% for x in ints %}{% for y in ints %}{% set z = y.real.real.real %}{% endfor %}{% endfor %}",
        "{% set b = ints|list %}" * 400,
        "".join(f"{{% set x{n} = long ~ {n} %}}" for n in range(300)),
        "{{ long|truncate(5, false, long) }}",
    ],
)
def test_what_is_built_and_computed_is_bounded_beforehand(text: str) -> None:
    variables = {**CONTACT, "long": "x" * 20_000, "ints": [1] * 30_000, "big": 10**4_200}
    tracemalloc.start()
    try:
        refusal(text, variables, html=len(text) % 2 == 0)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * 1024**2


def test_no_constants_are_computed_while_compiling() -> None:
    check(NESTED + "{{ ['x'] == ['x'] }}{{ 3 // 0 }}{{ '%1000000000d' is odd }}")


@pytest.mark.parametrize(
    "text", ["{{ a }}" * 8_000, "{{ " + "a + " * 15_000 + "a }}", "{{ [" + "a, " * 20_000 + "] }}"]
)
def test_a_text_that_is_far_too_complex_is_refused_before_its_tree_is_made(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = Mock()
    monkeypatch.setattr(template_engine, "narrow", narrow)
    with pytest.raises(TemplateError, match="too complex"):
        check(text)
    narrow.assert_not_called()


_VALUES = st.sampled_from(
    ["a", "b", "long", "ints", "big", "address", "tags", "'%9999999d'", "7", "2.5", "[a, b]", "(a, a)", "{'k': a}"]
)
_SHAPES = st.sampled_from(
    [
        *("[{0}, {1}]", "({0}, {1})", "{{'l': {0}, 'r': {1}}}", "{{({0}, 1): {1}}}", "{0} ~ {1}", "{0} + {1}"),
        *("{0} * {1}", "{0} % {1}", "{0} // {1}", "{0} - {1}", "-{0}", "{0} == {1}", "{0} < {1}", "{0} in {1}"),
        *("{0} is odd", "{0} is divisibleby({1})", "{0} is eq {1}", "{0}|string", "{0}|list", "{0}|sort"),
        *("{0}|unique|list", "{0}|join({1})", "{0}|replace('x', {1})", "{0}|int(0, 16)", "{0}|urlencode"),
        *("{0}[{1}]", "{0}[:]", "{0}.strip({1})", "{0}.split({1})", "{0}.items()", "{0}.get({1})", "{0}|round"),
    ]
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(_SHAPES, _VALUES, _VALUES), min_size=1, max_size=12), st.integers(1, 12))
def test_no_mix_of_operations_costs_much(steps: list[tuple[str, str, str]], times: int) -> None:
    line = "".join(f"{{% set a = ({shape.format(f'({x})', f'({y})')}) %}}" for shape, x, y in steps)
    variables = {**CONTACT, "a": "x", "b": [1], "long": "x" * 20_000, "ints": [1] * 20_000, "big": 10**4_000}
    began = time.thread_time()
    tracemalloc.start()
    try:
        render(line * times + "{{ a|string }}", variables)
    except TemplateError as error:
        assert str(error)  # noqa: PT017 - either way is right
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert time.thread_time() - began < 3.0
    assert peak_bytes < 64 * 1024**2


def test_a_list_may_be_asked_for_its_length_in_a_long_loop() -> None:
    text = "{% for x in ints %}{{ x if loop.index < ints|length else (ints|default([]))[0] + 1 }}{% endfor %}"
    assert render(text, {"ints": [1] * 5_000}) == "1" * 4_999 + "2"


def test_the_output_may_be_as_large_as_the_bound() -> None:
    assert len(render("{{ x }}", {"x": "x" * MAX_OUTPUT_CHARS})) == MAX_OUTPUT_CHARS
    assert "262,144" in refusal("{{ x }}.", {"x": "x" * MAX_OUTPUT_CHARS})


@pytest.mark.parametrize(
    "text",
    [
        "{{ 1 / 0 }}",
        "{{ 1 % 0 }}",
        "{{ name[5:'x'] }}",
        "{{ name - 1 }}",
        "{{ name > 1 }}",
        "{% for x in 5 %}{% endfor %}",
        "{{ name|truncate('x') }}",
        "{{ name.split(1) }}",
        "{{ [1, 'x']|sort }}",
        "{{ 5|length }}",
        "{{ address.street() }}",
    ],
)
def test_a_template_that_fails_says_so_in_one_line(text: str) -> None:
    assert "cannot be" in refusal(text) or "is for numbers" in refusal(text)


def test_html_is_escaped_where_it_is_asked_for() -> None:
    evil = {"name": "<script>", "tags": ["<", ">"]}
    text = (
        "<b>{{ name }}</b> {{ name ~ '&' }} {{ name|upper }} {{ tags|join('<br>') }} {{ name|replace('s', '<') }}"
    )
    filled = render(text, evil, html=True)
    assert filled.startswith("<b>&lt;script&gt;</b>")
    assert filled.count("<") == 2, "only the template's own"
    assert render(text, evil).startswith("<b><script></b>")


@pytest.mark.parametrize(
    "again", ["upper", "e", "string", "title", "trim", "reverse", "list|join", "replace('l','<')"]
)
def test_escaped_text_stays_escaped(again: str) -> None:
    filled = render(
        "{{ (x|e|" + again + ") + x }}{{ x|e ~ x }}{{ (x|e).split('a')|join(x) }}", {"x": "<a>"}, html=True
    )
    assert "<" not in filled
    assert ">" not in filled


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_whatever_is_written_gives_a_text_or_one_clear_error(text: str) -> None:
    for template in (text, "{{" + text + "}}", "{%" + text + "%}"):
        try:
            filled = render(template, CONTACT)
        except TemplateError as error:
            assert str(error)  # noqa: PT017 - either way is right
        else:
            assert len(filled) <= MAX_OUTPUT_CHARS


def test_the_variables_of_a_text_are_known() -> None:
    text = (
        "{{ name|upper ~ city }}{% for tag in tags %}{{ loop.index }}{{ tag }}{% endfor %}{% set x = y %}{{ x }}"
    )
    assert names(text) == {"name", "city", "tags", "y"}
    assert names("plain") == frozenset()


def test_data_is_not_read_as_a_template() -> None:
    assert render("{{ name }}", {"name": "{{ city }}"}) == "{{ city }}"


@pytest.mark.parametrize(
    ("text", "has"), [("plain", False), ("{ name }", False), ("{{x}}", True), ("{%x", True), ("{#", True)]
)
def test_plain_texts_are_told_from_templates(text: str, has: bool) -> None:
    assert has_variables(text) is has


def test_a_contact_gives_its_attributes_and_its_own_fields() -> None:
    contact = Somebody(attributes={"city": "Rome", "phone": "other", "age": None})
    assert contact_variables(contact, ("vip",)) == {
        "city": "Rome",
        "phone": "+491511234567",
        "name": "Bob",
        "tags": ["vip"],
    }


def test_what_a_contact_lacks_is_missing() -> None:
    with pytest.raises(MissingVariable, match="email"):
        render("{{ email }}", contact_variables(Somebody()))


def test_jinja_is_imported_only_when_it_is_needed() -> None:
    program = (
        "import sys; from crmd.crm.templating.templates import render;"
        "assert render('plain', {}) == 'plain'; assert 'jinja2' not in sys.modules;"
        "assert render('{{ 1 }}', {}) == '1'; assert 'jinja2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


async def test_the_loop_does_not_wait_for_a_thread_that_renders() -> None:
    began, go_on = threading.Event(), threading.Event()

    class Waiting(str):
        def __str__(self) -> str:
            began.set()
            go_on.wait(20)
            return "x"

    rendering = asyncio.create_task(asyncio.to_thread(render, "{{ x|replace('a', 'b') }}", {"x": Waiting("a")}))
    await asyncio.to_thread(began.wait, 20)
    assert render("{{ 1 + 1 }}", {}) == "2"
    another = asyncio.create_task(asyncio.to_thread(render, "{{ 2 }}", {}))
    assert not (await asyncio.wait([another], timeout=0.05))[0], "threads take turns"
    go_on.set()
    assert (await rendering, await another) == ("x", "2")

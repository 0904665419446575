"""Recognises messages in which people say that they want no more messages, or want them again."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Literal

from crmd.crm.consent.phrases import ANYWHERE, LACKS, LANGUAGES, NEGATIONS, NOW, POLITE, REASONS, Language

MAX_CHARS = 200
"""A longer text says more than that."""
MAX_WORDS = 16
# Accents of Latin, Cyrillic and Greek letters; vowel signs and the lengthening stroke of Arabic: often left out.
_ACCENTS = re.compile("[\u0300-\u036f\u064b-\u065f\u0640\u0670\ufe00-\ufe0f\u20e3]")
_LENGTHENED = re.compile(r"([^\W\d_])\1{2,}")
_CLAUSE_END = re.compile(r"(?<=[.!?;,\n\u2026\u3002\u060c\u061b\u061f\u0964])(?![.!?;,\n])|\s[-\u2010-\u2015]\s")
_QUESTION = re.compile(r"[?\u061f](?=[^\w.!;,\u060c\u061b]*$)")
_SPELLED = re.compile(r"(?<!\S)(?:\S )+\S(?!\S)")
_LETTERS = str.maketrans({"\u0131": "i", "\u0649": "\u064a", "\u0629": "\u0647"})

Meaning = Literal["out", "in"]
Words = tuple[str, ...]


class ConsentKeywords:
    """A resource of handlers: the words of the configuration and the shipped phrases.

    A message has to say just that, with nothing more than a please, thanks or a reason such as "wrong number"
    beside it. Case, accents, punctuation, emoji, invisible characters and full-width letters do not matter.
    """

    def __init__(
        self, out_words: Iterable[str], in_words: Iterable[str], languages: Iterable[str] = tuple(LANGUAGES)
    ) -> None:
        """Raises ValueError for a word that means both. A word of the configuration wins over a shipped phrase."""
        given = set(map(normal, out_words)), set(map(normal, in_words))
        self._out, self._in = (frozenset(one - {""}) for one in given)
        if both := self._out & self._in:
            raise ValueError(f'"{min(both)}" cannot be one of opt_out_words and one of opt_in_words')
        self._names = tuple(languages)

    @cached_property
    def _languages(self) -> list[Grammar]:
        """Made at the first message: a daemon that gets none need not hold them."""
        return [_grammar(language) for language in self._names]

    def meaning(self, *texts: str | None) -> Meaning | None:
        """What the texts of a message ask for: the first that asks for something decides."""
        for text in texts:
            if not text or len(text) > MAX_CHARS:
                continue
            if found := self._meaning(text):
                return found
            if self._is_out_beside_reasons(text):
                return "out"
        return None

    def _is_out_beside_reasons(self, text: str) -> bool:
        """Whether one clause is an opt-out, and each other one too, or a reason, or polite."""
        clauses = [clause for clause in _CLAUSE_END.split(text) if normal(clause)]
        if len(clauses) < 2 or len(normal(text).split()) > MAX_WORDS:
            return False
        others = [clause for clause in clauses if self._meaning(clause) != "out"]
        return len(others) < len(clauses) and all(_is_reason(normal(clause)) for clause in others)

    def _meaning(self, text: str) -> Meaning | None:
        words = tuple(normal(text).split())
        if not 0 < len(words) <= MAX_WORDS:
            return None
        cores = _without_politeness(words)
        bare = {" ".join(core) for core in cores}
        if bare & self._out:
            return "out"
        if bare & self._in:
            return "in"
        asks = _QUESTION.search(text) is not None
        return "out" if any(language.says(core, asks) for core in cores for language in self._languages) else None


def normal(text: str) -> str:
    """The words of a text, one blank between: what people write differently and mean alike becomes the same."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", plain))
    plain = unicodedata.normalize("NFC", plain).translate(_LETTERS)
    kept = "".join(map(_kept, plain))
    kept = _LENGTHENED.sub(r"\1", " ".join(kept.split()))
    return _SPELLED.sub(lambda found: found[0].replace(" ", ""), kept)


def _kept(character: str) -> str:
    """Letters, digits and the marks on them; nothing of what is invisible; a blank for everything else."""
    category = unicodedata.category(character)
    if category[0] in "LN" or category in ("Mn", "Mc"):
        return character
    return "" if category == "Cf" else " "


class Grammar:
    """One language: which texts are an opt-out as a whole."""

    def __init__(self, language: Language) -> None:
        self._alone = frozenset(_items(language.alone))
        heads, tails = _items(language.heads), _items(language.tails)
        self._phrases = frozenset((*_items(language.phrases), *(head + tail for head in heads for tail in tails)))
        many = frozenset(_items(language.things))
        any_number = many.union(_items(language.single))
        self._objects = dict.fromkeys(_items(language.refusals), many)
        """What may stand beside each verb."""
        for verbs, objects in (
            (language.stops, any_number),
            (language.removals, any_number.union(_items(language.lists))),
        ):
            self._objects |= {verb: objects | self._objects.get(verb, many) for verb in _items(verbs)}
        self._articles = _items(language.articles)
        self._fillers = _by(language.fillers, 0)
        self._wishes = _by(language.wishes, 0)

    def says(self, words: Words, asks: bool = False) -> bool:
        """Whether words without politeness around them are a phrase, or a verb with its object.

        What `asks`, a question, has to be a demand that says so.
        """
        if words in self._alone:
            return True
        return any(
            self._is_demand(core, asks)
            or any(self._is_demanded(core[len(wish) :]) for wish in _beginning(core, self._wishes))
            for core in {words, _without(words, self._fillers)}
        )

    def _is_demanded(self, words: Words) -> bool:
        """What may follow "can you"."""
        return bool(words) and any(self._is_demand(core) for core in _without_politeness(words))

    def _is_demand(self, words: Words, asks: bool = False) -> bool:
        if asks and any(_beginning(words, _politeness().lacks)):
            return False
        return words in self._phrases or self._is_sentence(words, asks)

    def _is_sentence(self, words: Words, asks: bool) -> bool:
        """With the verb in front; or at the end, as "offers stop?" asks something else."""
        for cut in range(1, len(words)):
            first, second = words[:cut], words[cut:]
            if first in self._objects and self._is_object(second, self._objects[first]):
                return True
            if not asks and second in self._objects and self._is_object(first, self._objects[second]):
                return True
        return False

    def _is_object(self, words: Words, objects: frozenset[Words]) -> bool:
        """An object, with any number of articles before it."""
        if words in objects:
            return True
        return any(
            words[: len(article)] == article and self._is_object(words[len(article) :], objects)
            for article in self._articles
            if len(article) < len(words)
        )


def _without_politeness(words: Words) -> list[Words]:
    """The words, and each rest of them without polite ones around; of what is said several times, once."""
    listed = _politeness()
    found = dict.fromkeys((words, _without(words, listed.anywhere)))
    first, last = (listed.first, listed.last) if listed.negations.isdisjoint(words) else listed.without_now
    left = list(found)
    for rest in left:  # grows meanwhile: each rest is shorter than the one that it is of
        starts = (rest[len(one) :] for one in _beginning(rest, first))
        ends = (rest[: -len(one)] for one in last.get(rest[-1], ()) if rest[-len(one) :] == one)
        shorter = [one for one in (*starts, *ends) if one and one not in found]
        found.update(dict.fromkeys(shorter))
        left += shorter
    return list(dict.fromkeys((*found, *(rest[:1] for rest in found if len(set(rest)) == 1))))


def _without(words: Words, dropped: Mapping[str, Sequence[Words]]) -> Words:
    """Taken out wherever it stands, unless nothing else is said."""
    if dropped.keys().isdisjoint(words):
        return words
    at, kept = 0, []
    while at < len(words):
        found = _beginning(words[at:], dropped)
        if not found:
            kept.append(words[at])
        at += max(map(len, found), default=1)
    return tuple(kept) or words


def _beginning(words: Words, listed: Mapping[str, Sequence[Words]]) -> Sequence[Words]:
    """Which of what is listed by its first word the words begin with."""
    return [one for one in listed.get(words[0], ()) if words[: len(one)] == one]


def _is_reason(said: str) -> bool:
    """Whether a clause is a reason for an opt-out, or only polite."""
    listed = _politeness()
    return any(core in listed.beside for core in _without_politeness(tuple(said.split())))


class _Politeness:
    """The polite words by their first and their last, so that few are looked at."""

    def __init__(self) -> None:
        self.anywhere = _by(ANYWHERE, 0)
        self.first, self.last = (_by(f"{POLITE}, {NOW}", place) for place in (0, -1))
        self.without_now = _by(POLITE, 0), _by(POLITE, -1)
        self.negations = frozenset(normal(NEGATIONS).split())
        self.lacks = _by(LACKS, 0)
        self.beside = frozenset((*_items(REASONS), *_items(POLITE)))


@lru_cache(maxsize=1)
def _politeness() -> _Politeness:
    return _Politeness()


@lru_cache(maxsize=len(LANGUAGES))
def _grammar(code: str) -> Grammar:
    return Grammar(LANGUAGES[code])


def _by(listed: str, place: int) -> Mapping[str, Sequence[Words]]:
    found: dict[str, list[Words]] = {}
    for words in _items(listed):
        found.setdefault(words[place], []).append(words)
    return found


def _items(listed: str) -> Sequence[Words]:
    return tuple(dict.fromkeys(words for one in listed.split(",") if (words := tuple(normal(one).split()))))

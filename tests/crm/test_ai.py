"""`chat_reply` and `transcribe_audio` against a service that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import select

from crmd.config.tables import OPENAI_URL
from crmd.crm.ai import jobs as ai_audio
from crmd.crm.ai import repository as usage
from crmd.crm.ai.answers import MAX_TEXT_BYTES
from crmd.crm.ai.client import AiClient
from crmd.crm.ai.jobs import ChatAnswer, Transcript, chat_reply, transcribe_audio
from crmd.crm.ai.payloads import ChatReply, TranscribeAudio
from crmd.crm.ai.tables import AiUsage
from crmd.crm.database.database import Database
from crmd.crm.files.store import FileStore
from crmd.crm.outbound.adaptive_rate import BREAKER_FAILURES
from crmd.crm.outbound.downloads import Downloads
from crmd.crm.outbound.http import HttpClient
from crmd.errors import JobSignal, PauseQueue, Permanent, RateLimited, Retry, Snooze
from tests.support.context import RecordedRun, make_context
from tests.support.file_site import FileSite
from tests.support.raised import raised
from tests.support.services import KEY, AiServer
from tests.support.started import started
from tests.support.wait import cancel_once

VOICE = b"OggS\x00\x02" + bytes(range(256)) * 40


@dataclass
class Bench:
    """The service, the database and the files, and a client for each."""

    http: HttpClient
    database: Database
    files: FileStore
    server: AiServer
    site: FileSite
    downloads: Downloads
    run: RecordedRun = field(default_factory=RecordedRun)

    def __post_init__(self) -> None:
        self.ai = self.client()

    def client(self, **settings: Any) -> AiClient:
        defaults: dict[str, Any] = {
            "base_url": self.server.base_url,
            "key": SecretStr(KEY),
            "model": "small",
            "transcription_model": "whisper",
            "timeout_seconds": 20.0,
        }
        return AiClient(self.http, **{**defaults, **settings})

    async def chat(self, fields: dict[str, Any] | None = None, **context: Any) -> ChatAnswer:
        payload = ChatReply.model_validate(fields or {"prompt": "Thank you!"})
        return await chat_reply(self._context("chat_reply", context), payload)

    async def transcribe(self, fields: dict[str, Any], **context: Any) -> Transcript:
        payload = TranscribeAudio.model_validate(fields)
        return await transcribe_audio(self._context("transcribe_audio", context), payload)

    async def recorded(self) -> list[tuple[str, str, str, int, int]]:
        async with self.database.reading() as session:
            rows = await session.scalars(select(AiUsage).order_by(AiUsage.id))
            return [(row.job_key, row.job, row.model, row.input_tokens, row.output_tokens) for row in rows]

    def _context(self, name: str, context: dict[str, Any]) -> Any:
        resources = (self.ai, self.downloads, self.database, self.files)
        return make_context(*resources, **{"queue": "ai", "name": name, "run": self.run, **context})


@pytest.fixture
async def bench(http: HttpClient, sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Bench]:
    files = FileStore(sqlite_database, tmp_path / "files", limits=50_000_000, keep_seconds=3600)
    async with (
        started(files),
        started(AiServer()) as server,
        started(FileSite()) as site,
        started(Downloads(allow_private=["127.0.0.1/32"])) as downloads,
    ):
        yield Bench(http, sqlite_database, files, server, site, downloads)


async def test_an_answer_and_what_it_cost(bench: Bench) -> None:
    result = await bench.chat({"prompt": "Thank you!", "system": "Be kind."}, key="thanks")
    assert result == {
        "text": "You are welcome.",
        "cut": False,
        "finish_reason": "stop",
        "model": "small-2024",
        "input_tokens": 21,
        "output_tokens": 7,
        "message_key": None,
    }
    assert bench.server.requests == [
        {
            "model": "small",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Thank you!"},
            ],
        }
    ]
    assert bench.server.authorizations == [f"Bearer {KEY}"]
    assert await bench.recorded() == [("thanks", "chat_reply", "small-2024", 21, 7)]
    assert bench.run.enqueued == []


async def test_a_conversation_and_all_options(bench: Bench) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Größe? 🦊"},
    ]
    await bench.chat({"messages": messages, "model": "large", "temperature": 0, "max_tokens": 50})
    assert bench.server.requests == [
        {"model": "large", "messages": messages, "temperature": 0, "max_tokens": 50},
    ]


async def test_the_other_name_of_the_limit(bench: Bench) -> None:
    bench.server.then_error(400, "unsupported_parameter", "use max_completion_tokens", param="max_tokens")
    await bench.chat({"prompt": "Hi", "max_tokens": 50})
    assert bench.server.requests[1]["max_completion_tokens"] == 50
    assert "max_tokens" not in bench.server.requests[1]


async def test_text_in_parts_and_without_end(bench: Bench) -> None:
    bench.server.text = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}, {"type": "image"}]
    assert (await bench.chat())["text"] == "one two"
    bench.server.text = "ü" * MAX_TEXT_BYTES
    result = await bench.chat()
    assert result["cut"]
    assert len(result["text"].encode()) == MAX_TEXT_BYTES


async def test_the_answer_is_handed_over_once_for_each_job(bench: Bench) -> None:
    bench.server.text = "word " * 2000
    reply_to = {"to": "+4915112345678", "context": "wamid.A", "mark_read": "wamid.B"}
    asked = {"prompt": "Hi", "reply_to": reply_to}
    result = await bench.chat(asked, key="a")
    await bench.chat(asked, key="a", attempt=2)
    await bench.chat(asked, key="b")
    await bench.chat({"prompt": "Hi", "reply_to": {"to": "+4915112345678", "once": "flow:1:2"}}, key="c")
    first, repeat, other, own = bench.run.enqueued
    queue, name, message, options = first
    assert (queue, name) == ("message", "send_message")
    assert message["to"] == "+4915112345678"
    assert len(message["text"]["body"]) <= 4096
    assert message["text"]["body"].endswith("word…")
    assert message["context"] == {"message_id": "wamid.A"}
    assert message["mark_read"] == "wamid.B"
    assert message["once"] == options["key"]
    assert repeat[2]["once"] == message["once"]
    assert repeat[3] == options
    assert other[2]["once"] != message["once"]
    assert own[2]["once"] == "flow:1:2"
    assert result["message_key"] == "job-1"


async def test_an_answer_without_text_is_not_sent(bench: Bench) -> None:
    bench.server.text, bench.server.finish_reason = None, "content_filter"
    await raised(Permanent, bench.chat({"prompt": "Hi", "reply_to": {"to": "+4915112345678"}}), "content_filter")
    assert bench.run.enqueued == []
    assert len(await bench.recorded()) == 1


async def test_the_answer_stands_where_the_database_does_not(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.database.stop()
    assert (await bench.chat())["text"] == "You are welcome."
    assert "not recorded" in caplog.text


# Refusals

Case = tuple[int, str | None, dict[str, str], type[JobSignal], str]

REFUSALS: list[Case] = [
    (400, "context_length_exceeded", {}, Permanent, "context_length_exceeded"),
    (400, None, {}, Permanent, "says no"),
    (404, "model_not_found", {}, Permanent, "model_not_found"),
    (422, None, {}, Permanent, "says no"),
    (401, "invalid_api_key", {}, PauseQueue, "check ai.key"),
    (403, None, {}, PauseQueue, "crmd resume ai"),
    (402, None, {}, PauseQueue, "credit"),
    (429, "insufficient_quota", {}, PauseQueue, "credit"),
    (429, "rate_limit_exceeded", {"Retry-After": "7"}, RateLimited, "rate_limit_exceeded"),
    (429, "rate_limit_exceeded", {}, RateLimited, "rate_limit_exceeded"),
    (408, None, {}, Retry, "408"),
    (500, None, {}, Retry, "500"),
    (503, None, {"Retry-After": "30"}, Retry, "503"),
    (529, "overloaded_error", {}, Retry, "overloaded"),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: f"{case[0]}-{case[1]}-{len(case[2])}")
async def test_refusals(bench: Bench, case: Case) -> None:
    status, code, headers, kind, said = case
    bench.server.then_error(status, code, "the API says no", headers=headers)
    signal = await raised(JobSignal, bench.chat(), said, "the API says no")
    assert type(signal) is kind
    assert KEY not in str(signal)
    if isinstance(signal, RateLimited):
        assert signal.after == (7 if headers else 60)
    if isinstance(signal, Retry):
        assert (signal.after is not None and 30 <= signal.after <= 33) is bool(headers)
    assert await bench.recorded() == []


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, "<html>", Retry),
        (200, {"choices": []}, Retry),
        (200, {"choices": [{"message": "x"}]}, Permanent),  # an answer, but no text in it
        (200, "[" * 10_000, Retry),
        (404, "nothing here", PauseQueue),
        (302, "elsewhere", PauseQueue),
        (413, "<html>too large</html>", Permanent),
        (502, "<html>bad gateway</html>", Retry),
        (400, {"error": "plain text"}, Permanent),
        (404, {"detail": "model 'x' not found"}, Permanent),
    ],
)
async def test_answers_that_are_not_the_apis(bench: Bench, status: int, body: Any, kind: type[JobSignal]) -> None:
    bench.server.then(status, body)
    assert type(await raised(JobSignal, bench.chat())) is kind


async def test_no_answer(bench: Bench) -> None:
    bench.server.then_drop()
    await raised(Retry, bench.chat())
    bench.ai = bench.client(timeout_seconds=0.3)
    bench.server.then_hang()
    await raised(Retry, bench.chat(), "no answer within 0.3 s")


async def test_nobody_listens(bench: Bench) -> None:
    await bench.server.stop()
    for _ in range(BREAKER_FAILURES - 1):
        await raised(Retry, bench.chat())
    await raised(RateLimited, bench.chat())
    await raised(RateLimited, bench.chat(), "several times in a row")


async def test_a_cancelled_job_hands_nothing_over(bench: Bench) -> None:
    bench.server.then_hang()
    await cancel_once(
        lambda: bench.server.requests, bench.chat({"prompt": "Hi", "reply_to": {"to": "+4915112345678"}})
    )
    assert bench.run.enqueued == []
    assert await bench.recorded() == []


async def test_without_a_key_the_job_waits_but_for_services_of_ones_own(bench: Bench) -> None:
    own = bench.client(key=SecretStr(""))
    assert own.configured
    bench.ai = own
    await raised(PauseQueue, bench.chat())  # this one wants a key after all
    assert bench.server.authorizations == [None]
    bench.ai = bench.client(key=SecretStr(""), base_url=OPENAI_URL)
    await raised(Snooze, bench.chat(), "ai.key is not set")


def test_a_key_that_cannot_work_is_refused(http: HttpClient) -> None:
    with pytest.raises(ValueError, match=r"ai\.key has spaces"):
        AiClient(
            http, base_url="http://x", key=SecretStr("a b"), model="m", transcription_model="w", timeout_seconds=1
        )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
        {"prompt": " "},
        {"messages": []},
        {"messages": [{"role": "tool", "content": "b"}]},
        {"prompt": "a", "temperature": 3},
        {"prompt": "a", "max_tokens": 0},
        {"prompt": "a", "reply_to": {"to": "abc"}},
        {"prompt": "a", "stream": True},
    ],
)
def test_payloads_that_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatReply.model_validate(fields)


# Recordings


async def test_an_uploaded_recording(bench: Bench) -> None:
    bench.server.text = " Guten Tag. "
    async with bench.files.create(kind="upload", name="Sprachnachricht.ogg", media_type="audio/ogg") as new:
        new.path.write_bytes(VOICE)
    result = await bench.transcribe({"file": new.id, "language": "de", "prompt": "crmd"}, key="voice")
    assert result == {
        "text": "Guten Tag.",
        "cut": False,
        "model": "whisper",
        "input_tokens": 30,
        "output_tokens": 9,
    }
    [sent] = bench.server.requests
    assert sent["file"] == ("Sprachnachricht.ogg", "audio/ogg", VOICE)
    assert (sent["model"], sent["language"], sent["prompt"]) == ("whisper", "de", "crmd")
    assert await bench.recorded() == [("voice", "transcribe_audio", "whisper", 30, 9)]


async def test_a_recording_by_url(bench: Bench) -> None:
    bench.server.text = ""
    bench.site.files["/media/42"] = (VOICE, "audio/ogg; codecs=opus")
    bench.site.files["/"] = (VOICE, "audio/mpeg")
    url = bench.site.url
    assert (await bench.transcribe({"url": f"{url}/media/42", "name": "voice.ogg", "model": "large"}))[
        "text"
    ] == ""
    await bench.transcribe({"url": f"{url}/"})
    first, second = bench.server.requests
    assert first["file"] == ("voice.ogg", "audio/ogg", VOICE)
    assert first["model"] == "large"
    assert second["file"] == ("audio.ogg", "audio/mpeg", VOICE)


async def test_recordings_that_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.files.create(kind="upload", name="a.ogg", media_type="audio/ogg") as new:
        new.path.write_bytes(VOICE)
    bench.site.files["/a.ogg"] = (VOICE, "audio/ogg")
    monkeypatch.setattr(ai_audio, "MAX_AUDIO_BYTES", len(VOICE) - 1)
    for fields in (
        {"file": new.id},
        {"file": "0" * 32},
        {"url": f"{bench.site.url}/a.ogg"},
        {"url": f"{bench.site.url}/b.ogg"},
        {"url": "http://10.0.0.1/a.ogg"},
    ):
        with pytest.raises(Permanent):
            await bench.transcribe(fields)
    assert bench.server.requests == []


async def test_a_recording_that_the_service_refuses(bench: Bench) -> None:
    bench.site.files["/a.txt"] = (b"text", "text/plain")
    bench.server.then_error(400, "unsupported_format", "not audio")
    with pytest.raises(Permanent, match="unsupported_format"):
        await bench.transcribe({"url": f"{bench.site.url}/a.txt"})
    bench.server.then(200, {"words": []})
    with pytest.raises(Retry, match="without an answer in it"):
        await bench.transcribe({"url": f"{bench.site.url}/a.txt"})


async def test_many_at_once(bench: Bench) -> None:
    # each in a run of its own, as they would otherwise all be the last one's
    answers = await asyncio.gather(*(bench.chat(key=str(number), run=RecordedRun()) for number in range(100)))
    assert {answer["text"] for answer in answers} == {"You are welcome."}
    assert len(await bench.recorded()) == 100


async def test_old_usage_is_removed(bench: Bench) -> None:
    async def note(key: str, at: datetime) -> None:
        tokens = {"input_tokens": 1, "output_tokens": 1}
        async with bench.database.transaction() as session:
            await usage.record(session, job_key=key, job="chat_reply", model="m", answered_at=at, **tokens)

    old, now = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    for key in ("a", "b", "c"):
        await note(key, old)
    await note("a", old)  # the same answer again
    assert len(await bench.recorded()) == 3
    await note("d", now)
    assert [row[0] for row in await bench.recorded()] == ["c", "d"]
    await note("e", now)
    assert [row[0] for row in await bench.recorded()] == ["d", "e"]

"""Queue `ai`: asks a language model, and transcribes recordings."""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TypedDict

from crmd.crm.ai import repository as usage
from crmd.crm.ai.answers import Answered, Outcome, Refused, Unclear
from crmd.crm.ai.client import AiClient
from crmd.crm.ai.payloads import ChatReply, ReplyTo, TranscribeAudio
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.files.store import DEFAULT_MEDIA_TYPE, FileStore, plain_name
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.outbound.adaptive_rate import MINUTE_WAIT, SERVICE, AdaptiveRate
from crmd.crm.outbound.downloads import fetch
from crmd.crm.outbound.http import NotSent, request_seconds
from crmd.errors import JobSignal, PauseQueue, Permanent, RateLimited, RecordsError, Retry, Snooze, UnknownFile
from crmd.jobs import JobContext, job

UNCONFIGURED_SECONDS = 60.0
MAX_MESSAGE_CHARS = 4096
"""Of a WhatsApp message."""
# Left of the job's own timeout for writing down what was answered.
_RESERVE_SECONDS = 2.0


class ChatAnswer(TypedDict):
    """The model's answer, and what it cost."""

    text: str
    cut: bool
    """Whether there was more of it than is kept."""
    finish_reason: str | None
    """`stop`, `length` where `max_tokens` cut it, or what else the service says."""
    model: str
    input_tokens: int
    output_tokens: int
    message_key: str | None
    """Key of the job in queue `message` that sends it."""


class Transcript(TypedDict):
    """What the recording says."""

    text: str
    cut: bool
    model: str
    input_tokens: int
    output_tokens: int


@job(queue="ai", payload=ChatReply)
async def chat_reply(ctx: JobContext, payload: ChatReply) -> ChatAnswer:
    """Asks the model. A repeat after a crash may ask again, which costs tokens; the answer is handed over once."""
    client = _client(ctx)
    outcome = await client.chat(
        payload.conversation,
        model=payload.model or client.model,
        temperature=payload.temperature,
        max_tokens=payload.max_tokens,
        timeout_seconds=request_seconds(ctx, client.timeout_seconds, _RESERVE_SECONDS),
    )
    answer = await _answer(ctx, client, outcome, payload.model or client.model)
    if not answer.text:
        reason = answer.finish_reason or "none"
        raise Permanent(f"the model answered without a text (finish_reason {reason})", code="no_text")
    key = await _hand_over(ctx, payload.reply_to, answer.text) if payload.reply_to else None
    return ChatAnswer(
        text=answer.text,
        cut=answer.cut,
        finish_reason=answer.finish_reason,
        model=answer.model or payload.model or client.model,
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        message_key=key,
    )


@job(queue="ai", payload=TranscribeAudio)
async def transcribe_audio(ctx: JobContext, payload: TranscribeAudio) -> Transcript:
    """Writes down what a recording says. Silence gives an empty text."""
    client = _client(ctx)
    model = payload.model or client.transcription_model
    async with recording(ctx, payload) as audio:
        outcome = await client.transcribe(
            audio.file,
            name=audio.name,
            media_type=audio.media_type,
            model=model,
            language=payload.language,
            prompt=payload.prompt,
            timeout_seconds=request_seconds(ctx, client.timeout_seconds, _RESERVE_SECONDS),
        )
    answer = await _answer(ctx, client, outcome, model)
    return Transcript(
        text=answer.text,
        cut=answer.cut,
        model=model,
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
    )


def handover_key(ctx: JobContext) -> str:
    """Under which the answer is sent: the same for each run of one job."""
    digest = hashlib.sha256(f"{ctx.key}\n{round(ctx.enqueued_at * 1000)}".encode()).hexdigest()
    return f"ai:{digest[:32]}"


def _client(ctx: JobContext) -> AiClient:
    """The client; raises where it is known beforehand that the job must wait."""
    client = ctx.get(AiClient)
    if not client.configured:
        raise Snooze("ai.key is not set; the job waits until it is", after=UNCONFIGURED_SECONDS)
    seconds = client.adaptive_rate.remaining_seconds(SERVICE)
    if seconds:
        raise RateLimited("the AI service failed several times in a row; asking waits", after=seconds)
    return client


async def _answer(ctx: JobContext, client: AiClient, outcome: Outcome, model: str) -> Answered:
    if not isinstance(outcome, Answered):
        raise signal_for(outcome, ctx, client.adaptive_rate)
    client.adaptive_rate.answered()
    try:
        async with ctx.get(Database).transaction() as session:
            await usage.record(
                session,
                job_key=ctx.key,
                job=ctx.name,
                model=outcome.model or model,
                input_tokens=outcome.usage.input_tokens,
                output_tokens=outcome.usage.output_tokens,
                answered_at=utc_now(),
            )
    except RecordsError as error:
        # The answer is there and paid for: to ask again would cost it once more.
        ctx.log.warning("the tokens of an answer are not recorded: %s", error)
    return outcome


async def _hand_over(ctx: JobContext, reply_to: ReplyTo, text: str) -> str:
    key = handover_key(ctx)
    message = SendMessage.model_validate(
        {
            "to": reply_to.to,
            "text": _cut(text),
            "context": {"message_id": reply_to.context} if reply_to.context else None,
            "mark_read": reply_to.mark_read,
            "once": reply_to.once or key,
        }
    )
    return await ctx.enqueue(
        "message", "send_message", message.model_dump(mode="json", exclude_none=True), key=key
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1].rstrip() + "…"


# The recording that `transcribe_audio` is about: an upload, or what a URL leads to


MAX_AUDIO_BYTES = 25 * 1024 * 1024
"""OpenAI takes no more."""
_DEFAULT_NAME = "audio.ogg"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording, open for reading."""

    name: str
    """Its ending tells the service the format."""
    media_type: str
    file: IO[bytes]


@asynccontextmanager
async def recording(ctx: JobContext, payload: TranscribeAudio) -> AsyncIterator[Recording]:
    """The recording. Raises Permanent for one that is not there or too large, Retry where it may come."""
    if payload.file is not None:
        try:
            stored = await ctx.get(FileStore).get(payload.file)
        except UnknownFile as error:
            raise Permanent(str(error)) from None
        if stored.size_bytes > MAX_AUDIO_BYTES:
            raise Permanent(
                f"the recording has {stored.size_bytes:,} bytes; at most {MAX_AUDIO_BYTES:,} go", code="too_large"
            )
        with await asyncio.to_thread(stored.path.open, "rb") as file:
            yield Recording(payload.name or stored.name, stored.media_type, file)
        return
    with tempfile.TemporaryFile() as file:
        fetched = await fetch(ctx, payload.url or "", file, max_bytes=MAX_AUDIO_BYTES)
        file.seek(0)
        name = payload.name or (plain_name(fetched.name) if fetched.name else _DEFAULT_NAME)
        yield Recording(name, fetched.media_type or DEFAULT_MEDIA_TYPE, file)


# How a job ends when an AI service gave no answer


Failure = Refused | Unclear | NotSent

_LIMIT = "limit of the AI service"
_NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "insufficient_credits"})
_PASSING = frozenset({408, 409, 425})
# Refusals of the one request, whoever words them.
_OF_REQUEST = frozenset({400, 413, 422})


def signal_for(failure: Failure, ctx: JobContext, rate: AdaptiveRate) -> JobSignal:
    """What the handler has to raise; notes in `rate` whether the service works."""
    if isinstance(failure, Refused):
        return _refused(failure, ctx, rate)
    if isinstance(failure, NotSent) and failure.forbidden:
        return PauseQueue(f"ai.base_url cannot be reached: {failure.reason}; correct it, {_resume(ctx)}")
    return _failed(f"no answer from the AI service: {failure.reason}", rate)


def _refused(refused: Refused, ctx: JobContext, rate: AdaptiveRate) -> JobSignal:
    said, status = str(refused), refused.status
    if status >= 500 or status in _PASSING:
        return _failed(said, rate, refused.retry_after_seconds)
    rate.answered()
    if status in (401, 403):
        return PauseQueue(f"{said}; check ai.key, {_resume(ctx)}")
    if status == 402 or (status == 429 and refused.code in _NO_CREDIT):
        return PauseQueue(f"{said}; see to the account's credit, {_resume(ctx)}")
    if status == 429:
        after = refused.retry_after_seconds
        return RateLimited(said, after=rate.park(_LIMIT, MINUTE_WAIT).seconds if after is None else after)
    if refused.is_of_api or status in _OF_REQUEST:
        return Permanent(said, code=refused.code or f"http_{status}")
    return PauseQueue(f"{said}; check ai.base_url and what stands before it, {_resume(ctx)}")


def _failed(reason: str, rate: AdaptiveRate, retry_after_seconds: float | None = None) -> JobSignal:
    stop_seconds = rate.failed()
    if stop_seconds:
        return RateLimited(reason, after=max(stop_seconds, retry_after_seconds or 0.0))
    # Never earlier than asked for, and a little apart, as many jobs may have been told the same.
    after = retry_after_seconds and retry_after_seconds * random.uniform(1.0, 1.1)
    return Retry(reason, after=after or None)


def _resume(ctx: JobContext) -> str:
    return f"then: crmd resume {ctx.queue}"

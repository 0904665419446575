"""Queue `ai`: asks a language model, and writes down what a recording says."""

from __future__ import annotations

import hashlib
from typing import TypedDict

from crmd.crm.ai import repository as usage
from crmd.crm.ai.answers import Answered, Outcome
from crmd.crm.ai.audio import recording
from crmd.crm.ai.client import AiClient
from crmd.crm.ai.payloads import ChatReply, ReplyTo, TranscribeAudio
from crmd.crm.ai.policy import signal_for
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.outbound.adaptive_rate import SERVICE
from crmd.errors import Permanent, RateLimited, RecordsError, Snooze
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
        timeout_seconds=_timeout_seconds(client, ctx),
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
            timeout_seconds=_timeout_seconds(client, ctx),
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


def _timeout_seconds(client: AiClient, ctx: JobContext) -> float:
    remaining = ctx.remaining_seconds
    if remaining is None:
        return client.timeout_seconds
    return min(client.timeout_seconds, max(_RESERVE_SECONDS, remaining - _RESERVE_SECONDS))

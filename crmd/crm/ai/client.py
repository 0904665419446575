"""A client for OpenAI's protocol: chat answers and transcriptions, or what is known when none came."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import IO, Any

import aiohttp
from pydantic import SecretStr
from yarl import URL

from crmd.config.tables import needs_key
from crmd.crm.ai.answers import Outcome, Refused, Unclear, read_chat, read_transcript
from crmd.crm.outbound.adaptive_rate import AdaptiveRate
from crmd.crm.outbound.http import HttpClient, NoAnswer, NotSent

# Newer models of OpenAI take the limit under another name, and refuse the one that all other services know.
_MAX_TOKENS, _NEW_MAX_TOKENS = "max_tokens", "max_completion_tokens"


class AiClient:
    """Asks one service; raises ValueError for settings that cannot work."""

    def __init__(
        self,
        http: HttpClient,
        *,
        base_url: str,
        key: SecretStr,
        model: str,
        transcription_model: str,
        timeout_seconds: float,
        rate: AdaptiveRate | None = None,
    ) -> None:
        secret = key.get_secret_value()
        if any(character <= " " or character > "~" for character in secret):
            raise ValueError("ai.key has spaces, line ends or non-ASCII characters; copy it again")
        self._http = http
        self._url = URL(base_url.rstrip("/"))
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self.configured = bool(secret) or not needs_key(base_url)
        self.model = model
        """For chat answers, where the job names no other."""
        self.transcription_model = transcription_model
        self.timeout_seconds = timeout_seconds
        self.adaptive_rate = rate or AdaptiveRate()

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        model: str,
        temperature: float | None,
        max_tokens: int | None,
        timeout_seconds: float,
    ) -> Outcome:
        """Asks for the next message of a conversation."""
        request: dict[str, Any] = {"model": model, "messages": [dict(message) for message in messages]}
        if temperature is not None:
            request["temperature"] = temperature
        if max_tokens is not None:
            request[_MAX_TOKENS] = max_tokens
        outcome = await self._chat(request, timeout_seconds)
        if isinstance(outcome, Refused) and outcome.parameter == _MAX_TOKENS and _MAX_TOKENS in request:
            request[_NEW_MAX_TOKENS] = request.pop(_MAX_TOKENS)
            outcome = await self._chat(request, timeout_seconds)
        return outcome

    async def transcribe(
        self,
        audio: IO[bytes],
        *,
        name: str,
        media_type: str,
        model: str,
        language: str | None,
        prompt: str | None,
        timeout_seconds: float,
    ) -> Outcome:
        """Asks for the text of a recording; closes the file. The service tells its format by the name's ending."""
        form = aiohttp.FormData(quote_fields=False)
        for field, value in (("model", model), ("language", language), ("prompt", prompt)):
            if value:
                form.add_field(field, value)
        form.add_field("response_format", "json")
        form.add_field("file", audio, filename=name, content_type=media_type)
        exchange = await self._http.post(
            self._url / "audio" / "transcriptions",
            body=form,
            headers=self._headers,
            timeout_seconds=timeout_seconds,
        )
        if isinstance(exchange, NotSent):
            return exchange
        return Unclear(exchange.reason) if isinstance(exchange, NoAnswer) else read_transcript(exchange)

    async def _chat(self, request: Mapping[str, Any], timeout_seconds: float) -> Outcome:
        exchange = await self._http.post(
            self._url / "chat" / "completions",
            body=json.dumps(request).encode(),
            headers={**self._headers, "Content-Type": "application/json"},
            timeout_seconds=timeout_seconds,
        )
        if isinstance(exchange, NotSent):
            return exchange
        return Unclear(exchange.reason) if isinstance(exchange, NoAnswer) else read_chat(exchange)

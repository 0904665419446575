"""The answers about files."""

from __future__ import annotations

from crmd.http.answers import AnswerBody, Timestamp


class FileAnswer(AnswerBody):
    """A file that is kept until it expires; the id is for payloads of jobs."""

    id: str
    name: str
    media_type: str
    size_bytes: int
    expires_at: Timestamp

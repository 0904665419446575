"""Runs programs that know nothing of crmd, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parents[1] / "conformance" / "programs"
TIMEOUT_S = 40.0


async def run_program(name: str, *args: str) -> Any:
    """Runs a program to its end; returns the JSON that it printed."""
    process = await _start(name, *args)
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@asynccontextmanager
async def running_program(name: str, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that runs meanwhile, and is ended by SIGTERM."""
    process = await _start(name, *args)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.communicate(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _start(name: str, *args: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(PROGRAMS / name), *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )

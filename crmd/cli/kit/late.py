"""A group whose commands are imported when they are typed."""

from __future__ import annotations

import importlib
from collections import UserDict
from collections.abc import Mapping
from typing import Any

import click

from crmd.cli.kit.base import Group


class LateGroup(Group):
    """A group that lists its commands without importing them."""

    def __init__(self, name: str, lines: Mapping[str, str], **options: Any) -> None:
        """`lines` has for each command, `"module:name"` and called by that name, its line in the list."""
        commands = LateCommands(lines)
        super().__init__(name, commands=commands, **options)
        self._listed = commands.data

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands."""
        Group("", commands=self._listed).format_commands(ctx, formatter)


class LateCommands(UserDict[str, click.Command]):
    """Commands by name, each imported when it is asked for; `data` has stand-ins, which know only their line."""

    def __init__(self, lines: Mapping[str, str]) -> None:
        self._references = {reference.partition(":")[2]: reference for reference in lines}
        super().__init__()
        self.data = {
            name: click.Command(name, short_help=lines[reference]) for name, reference in self._references.items()
        }

    def __getitem__(self, name: str) -> click.Command:
        """The command itself; raises KeyError."""
        module, _, attribute = self._references[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

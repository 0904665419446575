"""Writes and loads configurations for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crmd.config.load import Loaded, load
from crmd.errors import ConfigError, Problem


class ConfigBench:
    """A folder with a `config.toml`, loaded in an environment that the test gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config.toml"
        self.system_file = folder / "etc" / "config.toml"

    def write(self, text: str, name: str = "config.toml", mode: int = 0o600) -> Path:
        """Writes a file below the folder with the given mode."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def load(
        self,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        path: Path | None = None,
    ) -> Loaded:
        """Loads, with `text` as the file; the machine's own files and folders are kept out."""
        if text is not None:
            self.write(text)
        return load(
            path=path,
            environ={"HOME": str(self.folder / "home"), **(environ or {})},
            overrides=overrides,
            cwd=self.folder,
            system_config=self.system_file,
            system_state_dir=self.folder / "absent" / "crmd",
        )

    def problems(self, *args: Any, **kwargs: Any) -> list[Problem]:
        """The problems that loading finds; empty where it succeeds."""
        try:
            self.load(*args, **kwargs)
        except ConfigError as error:
            return error.problems
        return []

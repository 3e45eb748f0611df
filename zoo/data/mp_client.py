"""Questions to the Materials Project with the user's key, and one line where there is no answer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from zoo.errors import ZooError

KEY = "MP_API_KEY"
"""Environment variable that holds the key; it is read from there alone, and written nowhere."""


class MaterialsProjectClient:
    """A client of the package mp-api, opened when it is first asked."""

    def __init__(self, needed_by: str, kept: str) -> None:
        """Asks for nothing yet.

        Args:
            needed_by: who asks, for the message where something is missing.
            kept: what has become of the work so far, and how to go on, for the message where there is no answer.

        Raises:
            ZooError: mp-api is not installed, or there is no key.
        """
        self._kept = kept
        self._key = os.environ.get(KEY, "").strip()
        try:
            from mp_api.client import MPRester
        except ImportError:
            raise ZooError(f'{needed_by} needs mp-api: pip install "crystal-tensor-zoo[mp]"') from None
        if not self._key:
            raise ZooError(
                f"{needed_by} needs your key of the Materials Project: export {KEY}=..., "
                "from https://materialsproject.org/api"
            )
        self._open: Callable[..., Any] = MPRester
        self._client: Any = None

    @property
    def database(self) -> str | None:
        """The version of the database, a date; None where the client does not say.

        Raises:
            ZooError: the key is refused, or there is no answer.
        """
        if self._client is None:
            self.ask(lambda _: ())
        version = getattr(self._client, "db_version", None)
        return version if isinstance(version, str) else None

    def ask(self, question: Callable[[Any], Iterable[Any]]) -> list[Any]:
        """Return the documents, in any order, that a question to the client gives.

        Raises:
            ZooError: the key is refused, or there is no answer.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if self._client is None:
                    self._client = self._open(api_key=self._key, mute_progress_bars=True)
                return list(question(self._client))
            except Exception as error:  # its own, those of requests, of pydantic, of JSON
                why = " ".join(f"{type(error).__name__}: {error}".replace(self._key, "...").split())
                if any(words in why for words in ("status code 401", "status code 403", "valid API key")):
                    raise ZooError(
                        f"the Materials Project refuses the key in {KEY}: look it up at "
                        "https://materialsproject.org/api and export it again"
                    ) from None
                raise ZooError(
                    f"the Materials Project does not answer ({why[:300]}): try again later; {self._kept}"
                ) from None

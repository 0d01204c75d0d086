"""Who answers chats: a model in this process, or a server. A backend is one file and one line here, or an entry point
of the group ``palate.backends``: a class or function that takes the name of a model and the options that the backend
has, and gives a :class:`palate.mllm.backends.base.Backend`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from palate.errors import PalateError
from palate.registry import Registry

if TYPE_CHECKING:
    from palate.mllm.backends.base import Backend

BACKENDS: Registry[Callable[..., Backend]] = Registry(
    "backends",
    {
        "embedded": "palate.mllm.backends.embedded:open_embedded",
        "local": "palate.mllm.backends.local_spec:open_local",
        "openai": "palate.mllm.backends.openai:OpenAIBackend",
        "vllm": "palate.mllm.backends.vllm:VLLMBackend",
    },
)


def open_backend(name: str, model: str | None = None, **options: Any) -> Backend:
    """The backend of a name, ready to work.

    Args:
        model: a hub name or a folder (local, vllm), the server's name of it (openai); ``embedded`` needs none.
        options: as the backend takes them; those that are None have its own default.

    Raises:
        PalateError: no such backend or model, or an option that the backend does not have.
    """
    opener = BACKENDS[name]
    accepted = inspect.signature(opener).parameters
    for option, value in options.items():
        if value and option not in accepted:
            raise PalateError(
                f"the backend '{name}' has no option --{option.replace('_', '-')}",
                "Leave it out, or choose another backend.",
            )
    given = {option: value for option, value in options.items() if value is not None and option in accepted}
    return opener(model, **given)

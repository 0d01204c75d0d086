"""Options of backends, as commands offer them: each backend takes those that it has (:func:`.open_backend`)."""

from __future__ import annotations

from pydantic import Field

from palate.config import Config
from palate.mllm.lm.chat_template import TemplateKwargs


class BackendOptions(Config):
    """How a backend answers, and how it is reached; None is the backend's own default."""

    temperature: float = Field(0.0, ge=0, description="0: the likeliest words; above: drawn, by --seed.")
    attempts: int | None = Field(None, ge=1, description="How often one request is tried.")
    device: str | None = Field(None, description="embedded, local: auto, cpu, cuda, cuda:1, mps.")
    dtype: str | None = Field(None, description="embedded, local: auto, float32, bfloat16, float16.")
    quantisation: str | None = Field(None, description="local: weights in fewer bits.", examples=["{8bit,4bit}"])
    revision: str | None = Field(None, description="local: branch, tag or commit of a hub model.")
    trust_remote_code: bool = Field(False, description="local: run code of a hub model.")
    chat_template_kwargs: TemplateKwargs = Field(
        default_factory=dict,
        description="""Variables of the chat template: '{"enable_thinking": false}'.""",
        examples=["JSON"],
    )
    no_repeat_ngram_size: int | None = Field(
        None, ge=0, description="embedded, local: no N tokens in a row come twice; 0: they may.", examples=["N"]
    )
    batch_size: int | None = Field(None, ge=1, description="embedded, local: prompts at a time.")
    base_url: str | None = Field(None, description="openai: the server, with its /v1.", examples=["URL"])
    concurrency: int | None = Field(None, ge=1, description="openai: requests under way at a time.")
    timeout: float | None = Field(None, ge=1, description="openai: seconds to wait for one answer.")


class PictureBackendOptions(BackendOptions):
    """The same of a backend that is shown pictures."""

    longest: int | None = Field(None, ge=16, description="Shrink pictures to at most this many pixels per side.")

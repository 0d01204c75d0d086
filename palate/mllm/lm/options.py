"""Which language model is opened."""

from __future__ import annotations

from pydantic import Field

from palate.config import Config
from palate.mllm.lm.chat_template import TemplateKwargs


class ModelOptions(Config):
    """Which language model, and how it is held in memory.

    A ``dtype`` of ``auto`` is float32 on a CPU, elsewhere what the checkpoint was saved in.
    """

    name: str = Field(
        description="embedded, embedded-small, the name of a model on the hub, or a folder that holds one."
    )
    dtype: str = Field(
        "auto", description="Precision of the model's weights.", examples=["{auto,float32,bfloat16,float16}"]
    )
    quantisation: str | None = Field(
        None, description="Load the model quantised (CUDA only, by bitsandbytes).", examples=["{8bit,4bit}"]
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a model on the hub.")
    trust_remote_code: bool = Field(False, description="Run code that the model brings along. Read it first.")
    chat_template_kwargs: TemplateKwargs = Field(
        default_factory=dict,
        description="""Variables of the chat template: '{"enable_thinking": false}'.""",
        examples=["JSON"],
    )

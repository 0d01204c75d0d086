"""Any text model of transformers as an encoder: sentence-transformers, BERT-like, T5 encoders, CLIP and SigLIP towers.

A sentence-transformers folder says in ``modules.json`` how token vectors become one vector; that is followed. Other
models take the mean of the token vectors. The result has length 1, as such vectors are compared by their angle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from palate.features.content import Modality
from palate.features.encoders import Encoder, EncoderOptions, Vectors, pick_device, pick_dtype, weights_digest
from palate.features.hub import fetch, load_model, output_tensor, source
from palate.features.pooling import Pooling, read_pooling
from palate.storage.files import digest

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST = 512


class HubText(Encoder):
    """Text -> vector, with a text model of a hub or of a local folder."""

    modalities: ClassVar[tuple[Modality, ...]] = ("text",)

    def __init__(self, options: EncoderOptions, folder: Path | None = None) -> None:
        where = source(options, folder)
        auto: Any = import_module("transformers").AutoTokenizer
        self.options = options
        self.device = pick_device(options.device)
        self.dtype = pick_dtype(options.dtype, self.device)
        self.tokenizer = fetch(options.name, "tokenizer", lambda: auto.from_pretrained(**where))
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model, _ = load_model(options, where)
        self.pooling: Pooling = read_pooling(options, where)
        self.is_tower = hasattr(model, "get_text_features")  # CLIP, SigLIP and their kin
        if not self.is_tower and getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        text_config = getattr(model.config, "text_config", model.config)
        positions = getattr(text_config, "max_position_embeddings", None) or _LONGEST
        # RoBERTa counts positions from the padding index on, so that two of its positions cannot be used.
        if getattr(text_config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
            positions -= 2
        limits = [self.pooling.max_tokens or _LONGEST, positions, self.tokenizer.model_max_length]
        self.max_tokens = int(min(limits))
        # SigLIP was trained with every text padded to the full length and no mask.
        self.padding: bool | str = "max_length" if "siglip" in model.config.model_type else True
        self.fingerprint = digest(
            weights_digest(model), self._tokenizer_text(), repr(self.pooling), str(self.max_tokens), str(self.dtype)
        )
        self.model = model.to(self.device, self.dtype)
        self.pooling.to(self.device)
        self.batch_size = 32 if self.device.type == "cpu" else 256
        self.width = int(self(["width"]).shape[1])

    def _tokenizer_text(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return backend.to_str() if backend is not None else repr(sorted(self.tokenizer.get_vocab().items()))

    def encode(self, batch: Sequence[Any]) -> Vectors:
        import torch

        texts = [self.pooling.prompt + text for text in batch]
        tokens = self.tokenizer(
            texts, padding=self.padding, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.device)
        run: Callable[..., Any] = self.model.get_text_features if self.is_tower else self.model
        with torch.inference_mode():
            output = run(**tokens)
            if self.is_tower:
                pooled: Tensor = output_tensor(output).float()
            else:
                pooled = self.pooling.pool(output.last_hidden_state.float(), tokens["attention_mask"])
            if self.pooling.normalize:
                pooled = torch.nn.functional.normalize(pooled, dim=1)
            vectors: Vectors = pooled.cpu().numpy()
        return vectors

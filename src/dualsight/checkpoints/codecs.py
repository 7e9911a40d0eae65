"""Image codecs on disk: a folder with ``config.json`` (``model_type`` says which codec) and ``model.safetensors``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights

from dualsight.checkpoints.weights import CheckpointError, WeightFiles, load_weights, save_weights, write_json
from dualsight.nn.config import build
from dualsight.pathways.vae import VAE, VAEConfig
from dualsight.pathways.vq import VQConfig, VQTokenizer

Codec = VQTokenizer | VAE
CODECS: dict[str, tuple[Any, Any]] = {"vq": (VQTokenizer, VQConfig), "vae": (VAE, VAEConfig)}


def save_codec(codec: Codec, folder: Path) -> None:
    """Write a codec's config and weights."""
    kind = next(name for name, (codec_class, _) in CODECS.items() if isinstance(codec, codec_class))
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(codec.state_dict(), folder)
    write_json(folder / "config.json", {"model_type": kind, **asdict(codec.config)})


def load_codec(folder: str | Path) -> Codec:
    """The codec of a folder, in evaluation mode.

    Raises:
        CheckpointError: the folder holds no codec, or a damaged one; what is wrong is named.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text())
        codec_class, config_class = CODECS[config.pop("model_type")]
        with init_empty_weights():
            codec = codec_class(build(config_class, config, str(path)))
    except OSError as error:
        raise CheckpointError(f"{folder} holds no image codec: there is no config.json") from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no codec's config: {error}; expected one of {', '.join(CODECS)}") from error
    load_weights(codec, WeightFiles(Path(folder)))
    return codec.eval()

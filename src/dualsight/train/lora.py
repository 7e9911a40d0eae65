"""LoRA (arXiv:2106.09685) on a language model, by peft: added in place, merged back, saved in peft's layout."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from dualsight.data.files import replacing

MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def add_lora(model: PreTrainedModel, rank: int, alpha: float | None = None) -> None:
    """Freeze a model and put an adapter of ``rank`` on every matrix of its layers, in place. It starts as nothing.

    Args:
        alpha: the adapter counts ``alpha / rank``; by default twice.
    """
    from peft import inject_adapter_in_model

    inject_adapter_in_model(_config(rank, alpha), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merge_lora(model: PreTrainedModel, rank: int, folder: Path | None = None, alpha: float | None = None) -> None:
    """Add the adapters to the weights that they adapt, and take them off.

    Args:
        folder: where to write them before, as peft loads them.
    """
    from peft import get_peft_model_state_dict
    from peft.tuners.lora import LoraLayer
    from safetensors.torch import save_file

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        config = _config(rank, alpha)
        model.peft_config = {"default": config}  # what peft reads the adapter's layout from
        state = get_peft_model_state_dict(model)
        del model.peft_config
        with replacing(folder / "adapter_model.safetensors") as temporary:
            save_file({f"base_model.model.{name}": tensor.contiguous() for name, tensor in state.items()}, temporary)
        config.save_pretrained(folder)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                setattr(module, name, child.get_base_layer())


def _config(rank: int, alpha: float | None):
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=int(alpha or 2 * rank), target_modules=MATRICES, bias="none")

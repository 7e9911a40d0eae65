"""What several test files share."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """The folder of a small navigator with random weights, which knows the words of our instructions."""
    from dualsight.checkpoints.janus_vln import save_pretrained
    from dualsight.envs.sim.instructions import vocabulary
    from dualsight.models.janus_vln import TINY
    from dualsight.train.stages import new_model

    folder = tmp_path_factory.mktemp("checkpoint")
    config = replace(TINY, text=replace(TINY.text, num_hidden_layers=1))
    save_pretrained(*new_model(vocabulary(), config), folder, torch.float16)
    return folder

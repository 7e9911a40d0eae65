"""dualsight: decoupled visual pathways and compact neural memory for multimodal LLMs.

The layers, from the ground up (imports flow one way, ``tests/test_architecture.py`` asserts it)::

    types -> nn -> pathways | memory -> models -> checkpoints -> inference -> train | bench -> cli
    types -> data | envs
"""

__version__ = "0.1.0"

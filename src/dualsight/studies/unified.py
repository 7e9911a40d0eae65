"""Janus' second claim (table 5, ablations E and F): one model for both tasks is as good at each as one for it alone.

Here the budget is the same number of examples in all, so the unified model sees half as many of each kind.
"""

from dualsight.studies.study import Arm, Claim, Study

STUDY = Study(
    "unified",
    (Arm("unified"), Arm("understanding only", ratio=(1, 0, 0)), Arm("generation only", ratio=(0, 0, 1))),
    (
        Claim(
            "it understands as well as one that only understands", "unified", "understanding only", "understanding", 3
        ),
        Claim("it draws as well as one that only draws", "unified", "generation only", "generation", 3),
        Claim("new pictures are as likely to it (nats)", "unified", "generation only", "likelihood", 3),
    ),
)

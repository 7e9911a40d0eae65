"""Which understanding encoder? The released models have SigLIP; the paper's own survey names CLIP; DINOv2 never read.

At TINY all three are trained from nothing by the same contrastive loss: architectures are compared, not web-scale data.
"""

from dualsight.studies.study import Arm, Claim, Study

STUDY = Study(
    "encoders",
    (Arm("siglip"), Arm("clip", encoder="clip"), Arm("dinov2", encoder="dinov2")),
    (
        Claim("CLIP's architecture does as well as SigLIP's", "siglip", "clip", "understanding", 5, alike=True),
        Claim("DINOv2's architecture does as well as SigLIP's", "siglip", "dinov2", "understanding", 5, alike=True),
    ),
)

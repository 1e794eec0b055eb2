"""What a training run is told: the models of a TRAINING.yaml.

Owns names, units, defaults and bounds of every setting. The defaults are the paper's wide-field system
(METHOD, "Networks" and "Loss"); presets in `configs/training/` state what they change.
"""

from typing import Literal

from pydantic import BaseModel, Field

from configs.document import read_yaml
from inference.generator import GeneratorPlan

__all__ = ["DiscriminatorPlan", "LossPlan", "TrainingPlan", "load_training_plan"]


class DiscriminatorPlan(BaseModel, frozen=True, extra="forbid"):
    """The shape of the discriminator; the paper leaves its widths open."""

    base_width: int = Field(default=32, ge=1)
    """Channels after the first convolution; each of the five blocks doubles them."""
    shuffle: int = Field(default=1, ge=1, le=4)
    """Pixels along a block that becomes channels before the first layer; 1 is the paper's network, 2 costs
    less than half of it in time."""
    learning_rate: float = Field(default=1e-5, gt=0)
    spectral_norm: bool = False
    """Divide every weight by its largest singular value (Miyato et al., ICLR 2018)."""
    r1_weight: float = Field(default=0.0, ge=0)
    """Of the squared gradient of the logits at true patches (Mescheder et al., ICML 2018). Not in the paper,
    whose losses diverge after 60,000 iterations."""
    r1_every: int = Field(default=16, ge=1)
    """Iterations between penalties, each as many times heavier."""


class LossPlan(BaseModel, frozen=True, extra="forbid"):
    """Weights of the generator's loss, `-log D(G(x)) + lambda MSE - nu log[(1 + SSIM) / 2]`.

    The MSE is taken on images divided by 255, so that `mse_weight` is of the order of the other terms. The
    paper wants both terms at 1 to 10 % of the whole loss; `history.jsonl` logs each term.
    """

    mse_weight: float = Field(default=20.0, ge=0)
    """The paper's lambda, times 255^2. Models are selected with it, whatever the shares do."""
    ssim_weight: float = Field(default=0.5, ge=0)
    """The paper's nu; 0 for confocal to STED."""
    mse_share: float | None = Field(default=None, gt=0, lt=0.5)
    """Of the generator's whole loss: its weight follows the adversarial term so that the MSE keeps it."""
    ssim_share: float | None = Field(default=None, gt=0, lt=0.5)
    fourier_weight: float = Field(default=0.0, ge=0)
    """Of the mean absolute difference of the spectra of patches. Not in the paper."""
    adversarial: bool = True
    """False trains the generator alone (the paper's over-smoothed control)."""
    gan: Literal["paper", "hinge", "relativistic"] = "paper"
    """The adversarial loss: the paper's logarithms, hinge (Lim & Ye 2017), or relativistic average
    (Jolicoeur-Martineau, ICLR 2019)."""


class TrainingPlan(BaseModel, frozen=True, extra="forbid"):
    """A TRAINING.yaml."""

    name: str
    channel: str
    generator: GeneratorPlan = GeneratorPlan()
    discriminator: DiscriminatorPlan = DiscriminatorPlan()
    loss: LossPlan = LossPlan()
    learning_rate: float = Field(default=1e-4, gt=0)
    """Of the generator; constant unless `decay` is set."""
    decay: Literal["constant", "cosine"] = "constant"
    """Cosine lowers both rates to a hundredth at the end of the budget."""
    gradient_limit: float | None = Field(default=None, gt=0)
    """Longest gradient of the generator (2-norm) that is followed; a longer one is shortened to it. Without
    it a learning rate ten times the paper's now and then ruins a network in one step."""
    patch_px: int = Field(default=64, ge=16)
    """Side of a training patch on the high grid."""
    input_noise: float = Field(default=0.0, ge=0, lt=1)
    """Shot noise that is added to low patches: its standard deviation at full scale in parts of full scale, a
    strength from nothing to this being drawn for each patch; it goes with the root of the brightness. Where
    low and high come of the same exposures, a network learns to repeat their noise, and a time-lapse
    flickers; noise that the high patch does not share unlearns that. Not in the paper."""
    batch: int = Field(default=24, ge=1)
    """Patches in one update of one process; `torchrun` multiplies it by the number of processes."""
    accumulate: int = Field(default=1, ge=1)
    """Parts that the batch is computed in, one after the other, where it does not fit the device at once."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Decay of the moving average of the generator's weights that is validated and exported in its place."""
    iterations: int = Field(default=50_000, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    """Stop after this wall time, where it comes before the iterations."""
    validate_every: int = Field(default=500, ge=1)
    """Iterations between validations, each of which keeps the generator when it is the best so far."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto takes bfloat16 on a CPU that computes in it, and float32 elsewhere."""
    compile: bool = False
    """Compile both networks (torch.compile). Brought nothing on an H200, which waits for the host at the
    presets' sizes (`bench/gpu_training.py`); needs a C++ compiler on a CPU."""
    seed: int = 0


def load_training_plan(name: str) -> TrainingPlan:
    """Read a TRAINING.yaml by path or by the bare name of a preset; raises WrongInputError."""
    return read_yaml(name, TrainingPlan, folder="training")

"""Writes contract 3: turns the best generator of a run into a bioimage.io model package.

Owns the ONNX export, the rdf.yaml and the files beside it. Other programs that read bioimage.io packages
can run the result; `inference.model_package` reads it for serving.
"""

import copy
import io
import logging
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from inference.domain import bright_level
from inference.generator import MeanOnly
from inference.journal import atomic_path
from inference.model_package import TRAINED_ON, FrameStatistics, IntensityRange, ServingCard
from training.evaluation.evaluate import Evaluation
from training.evaluation.model_card import CardFacts, model_card
from training.evaluation.pictures import side_by_side_png
from training.guard_limits import guard_limits
from training.pairing.gate import GateLimits
from training.pairing.pairs import PairRecord, PairSet
from training.settings import TrainingPlan

__all__ = ["ModelSource", "WeightsDisagreeError", "export_onnx", "export_package"]

OPSET = 18
TEST_SIDE_PX = 128
LARGEST_DISAGREEMENT = 1e-4
"""Between ONNX and safetensors at any pixel, in standard deviations of the output."""
LEAST_STD = 1e-3
"""On the 0 to 255 scale: an output that is as good as constant is not held to a part of its noise."""
FloatImage = np.ndarray[Any, np.dtype[np.float32]]


class WeightsDisagreeError(RuntimeError):
    """The ONNX and the safetensors weights of a package would compute different images."""

    def __init__(self, disagreement: float, shape: tuple[int, ...]) -> None:
        self.disagreement = disagreement
        self.shape = shape
        super().__init__(
            f"the exported ONNX differs from the safetensors weights by {disagreement:.2g} of the output's "
            f"standard deviation on an input of {shape}, where {LARGEST_DISAGREEMENT:g} is allowed; no "
            "package was written. Export with the versions of torch and onnxruntime that pyproject.toml names"
        )


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What a package is made of."""

    generator: nn.Module
    """In evaluation mode, on the CPU; of an uncertain one the image alone is served."""
    plan: TrainingPlan
    pair_set: PairSet
    figures: dict[str, float]
    """Validation figures, by name."""
    lineage: dict[str, str]
    """Hashes of what it was trained on."""
    inherited: frozenset[str] = frozenset()
    """SHA-256 of the files that the model it began with was trained on."""
    evaluation: Evaluation | str = "nobody has asked for it"
    """On the test split, for the model card; or why there is none."""


def export_package(source: ModelSource, path: Path) -> Path:
    """Write a model package as a zip, whole or not at all.

    Parameters
    ----------
    path
        Of the zip; an existing one is replaced.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    WeightsDisagreeError
        When ONNX and safetensors do not compute the same.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        low, high = _test_images(source)
        with torch.inference_mode():
            output = MeanOnly(source.generator)(low)
        _write_files(folder, source, low, output, high)
        _check_agreement(folder, source.generator, low, source.plan.generator.step)
        model = _describe(folder, source)
        _save(model, path)
    return path


def _test_images(source: ModelSource) -> tuple[Tensor, FloatImage]:
    """Return a corner of a validation pair: the network's input (1, 1, H, W) and the truth (H, W)."""
    record = source.pair_set.select("validation", source.plan.channel)[0]
    low, high = source.pair_set.read(record)
    step = source.plan.generator.step
    height, width = (max(step, min(TEST_SIDE_PX, side) // step * step) for side in low.shape)
    y, x = _brightest_corner(low, height, width)
    window = (slice(y, y + height), slice(x, x + width))
    return torch.from_numpy(np.ascontiguousarray(low[window]))[None, None], high[window]


def _brightest_corner(low: FloatImage, height: int, width: int) -> tuple[int, int]:
    """Return where a window of this size has most specimen, on a coarse grid."""
    ys = range(0, low.shape[0] - height + 1, max(1, height // 2))
    xs = range(0, low.shape[1] - width + 1, max(1, width // 2))
    places = [(y, x) for y in ys for x in xs]
    return max(places, key=lambda yx: float(low[yx[0] : yx[0] + height, yx[1] : yx[1] + width].mean()))


def _write_files(folder: Path, source: ModelSource, low: Tensor, output: Tensor, high: FloatImage) -> None:
    np.save(folder / "test_input.npy", low.numpy())
    np.save(folder / "test_output.npy", output.numpy())
    export_onnx(MeanOnly(source.generator).eval(), low, folder / "weights.onnx")
    (folder / "weights.safetensors").write_bytes(save(source.generator.state_dict()))
    panels = {"input": low[0, 0].numpy(), "enhanced": output[0, 0].numpy(), "truth": high}
    (folder / "cover.png").write_bytes(side_by_side_png(panels))
    (folder / "README.md").write_text(_readme(source), encoding="utf-8")
    (folder / TRAINED_ON).write_text("\n".join(sorted(_trained_on(source))), encoding="utf-8")


def _trained_on(source: ModelSource) -> frozenset[str]:
    """Return the hashes of all files that had a part in the weights or in their choice."""
    seen = [
        hash_
        for split in ("train", "validation")
        for record in source.pair_set.select(split, source.plan.channel)
        for hash_ in record.sources.values()
    ]
    return source.inherited.union(seen)


def export_onnx(generator: nn.Module, example: Tensor, path: Path) -> None:
    """Write a generator as ONNX with dynamic batch, height and width.

    Parameters
    ----------
    example
        (1, 1, H, W), of sides that the generator takes.
    """
    dynamic = {0: "batch", 2: "height", 3: "width"}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter itself
        torch.onnx.export(
            generator,
            (example,),
            path,
            input_names=["low"],
            output_names=["high"],
            dynamic_axes={"low": dynamic, "high": dynamic},
            opset_version=OPSET,
            dynamo=False,
        )


def _check_agreement(folder: Path, generator: nn.Module, low: Tensor, step: int) -> None:
    """Run both stored weights on the test input, and on a batch of two of another height."""
    import onnxruntime

    stored = copy.deepcopy(generator)
    stored.load_state_dict(load_file(folder / "weights.safetensors"))
    network = MeanOnly(stored).eval()
    session = onnxruntime.InferenceSession(str(folder / "weights.onnx"), providers=["CPUExecutionProvider"])
    lower = low[:, :, step:] if low.shape[2] > step else low
    for example in (low, torch.cat([lower, lower.flip(3)])):
        with torch.inference_mode():
            ours = network(example).numpy()
        (theirs,) = session.run(["high"], {"low": example.numpy()})
        disagreement = float(np.abs(theirs - ours).max()) / max(float(ours.std()), LEAST_STD)
        if not disagreement <= LARGEST_DISAGREEMENT:  # NaN too
            raise WeightsDisagreeError(disagreement, tuple(example.shape))


def _readme(source: ModelSource) -> str:
    index = source.pair_set.index
    facts = CardFacts(
        source.plan.name,
        source.plan.channel,
        index.optics,
        index.factor,
        len(_trained_on(source)),
        source.figures,
    )
    return model_card(facts, source.evaluation)


def _card(source: ModelSource) -> ServingCard:
    index, plan = source.pair_set.index, source.plan
    low = index.normalisation[plan.channel].low
    train = source.pair_set.select("train", plan.channel)
    return ServingCard(
        sharpscope_version=version("sharpscope"),
        factor=index.factor,
        channel=plan.channel,
        modality=index.optics.modality,
        low_pixel_size_um=index.optics.low_pixel_size_um,
        high_pixel_size_um=index.optics.high_pixel_size_um,
        low_numerical_aperture=index.optics.low_numerical_aperture,
        high_numerical_aperture=index.optics.high_numerical_aperture,
        background=low.background,
        scale=low.scale,
        intensity=_intensity(source.pair_set, train, low.scale),
        frames=_frames(train),
        guard=guard_limits(
            MeanOnly(source.generator).eval(), plan.generator.step, source.pair_set, plan.channel
        ),
        generator=plan.generator.model_dump(),
        step=plan.generator.step,
        minimum=plan.generator.step,
        receptive_radius_px=plan.generator.receptive_radius_px,
        lineage=source.lineage,
        figures=source.figures,
    )


def _intensity(pair_set: PairSet, records: list[PairRecord], scale: float) -> IntensityRange:
    """Return how bright the training's low images were, in counts and on the network's scale."""
    levels = [bright_level(pair_set.read(record)[0], 0.0) for record in records]
    return IntensityRange(
        bright_counts_min=min(levels) / scale,
        bright_counts_max=max(levels) / scale,
        bright_network=float(np.median(levels)),
    )


def _frames(records: list[PairRecord]) -> FrameStatistics | None:
    """Return what the pair set says of the training's low frames, None where it says nothing."""
    stated = [record.signal_to_noise.low for record in records if record.signal_to_noise is not None]
    known = [ratio for ratio in stated if ratio is not None]
    if not known:
        return None
    return FrameStatistics(
        signal_to_noise_min=min(known),
        signal_to_noise_median=float(np.median(known)),
        signal_to_noise_max=max(known),
        saturated_fraction_max=GateLimits().largest_saturated_fraction,
    )


def _describe(folder: Path, source: ModelSource) -> Any:  # noqa: ANN401 # bioimageio is imported lazily
    """Return the bioimage.io description of the files in the folder."""
    from bioimageio.spec.common import FileDescr
    from bioimageio.spec.model import v0_5

    plan = source.plan
    size = v0_5.ParameterizedSize(min=plan.generator.step, step=plan.generator.step)
    space_in = [v0_5.SpaceInputAxis(id=v0_5.AxisId(name), size=size) for name in "yx"]
    space_out = [
        v0_5.SpaceOutputAxis(
            id=v0_5.AxisId(name),
            size=v0_5.SizeReference(tensor_id=v0_5.TensorId("low"), axis_id=v0_5.AxisId(name)),
        )
        for name in "yx"
    ]
    leading = [v0_5.BatchAxis(), v0_5.ChannelAxis(channel_names=[v0_5.Identifier("intensity")])]
    return v0_5.ModelDescr(
        name=_permitted_name(f"sharpscope {plan.name}"),
        description=f"Super-resolution of {plan.channel} fluorescence after Wang et al. 2019",
        authors=[v0_5.Author(name="sharpscope")],
        cite=[
            v0_5.CiteEntry(
                text="Wang, Rivenson et al., Nature Methods 16, 103-110 (2019)",
                doi=v0_5.Doi("10.1038/s41592-018-0239-0"),
            )
        ],
        license=v0_5.LicenseId("BSD-3-Clause"),
        documentation=FileDescr(source=folder / "README.md"),
        covers=[FileDescr(source=folder / "cover.png")],
        attachments=[FileDescr(source=folder / name) for name in ("weights.safetensors", TRAINED_ON)],
        tags=["super-resolution", "fluorescence", "image-restoration"],
        version=v0_5.Version("0.1.0"),
        config=v0_5.Config.model_validate({"sharpscope": _card(source).model_dump(mode="json")}),
        inputs=[
            v0_5.InputTensorDescr(
                id=v0_5.TensorId("low"),
                axes=[*leading, *space_in],
                test_tensor=FileDescr(source=folder / "test_input.npy"),
                data=v0_5.IntervalOrRatioDataDescr(type="float32"),
            )
        ],
        outputs=[
            v0_5.OutputTensorDescr(
                id=v0_5.TensorId("high"),
                axes=[*leading, *space_out],
                test_tensor=FileDescr(source=folder / "test_output.npy"),
                data=v0_5.IntervalOrRatioDataDescr(type="float32"),
            )
        ],
        weights=v0_5.WeightsDescr(
            onnx=v0_5.OnnxWeightsDescr(source=folder / "weights.onnx", opset_version=OPSET)
        ),
    )


def _permitted_name(name: str) -> str:
    """bioimage.io takes letters, digits, blanks and a few signs."""
    return "".join(letter if letter.isalnum() or letter in " _-()" else "-" for letter in name)


def _save(model: Any, path: Path) -> None:  # noqa: ANN401 # bioimageio is imported lazily
    from bioimageio.spec import save_bioimageio_package_to_stream

    stream = io.BytesIO()
    save_bioimageio_package_to_stream(model, output_stream=stream)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())

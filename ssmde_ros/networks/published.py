"""Published depth networks of others in our format: monodepth2 (Godard 2019), SC-Depth v1 to v3 (Bian 2021, Sun 2022)
and Lite-Mono (Zhang 2023).

Written from the papers and from the names and shapes in the published files; the authors' code was not opened. The
first two are a ResNet and the decoder of `decoder.py` with reflection at the edges; they differ in names and in the
range of depth.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssmde_ros.networks.checkpoint_file import read_checkpoint
from ssmde_ros.networks.config import DepthNetConfig, ScaleKind
from ssmde_ros.networks.depth_net import DepthNet
from ssmde_ros.networks.identity import WeightsError, check_finite, check_layout
from ssmde_ros.networks.lite_mono import LITE_MONO

WIDTHS = (16, 32, 64, 128, 256)
# Godard 2019, and Lite-Mono: sigmoid maps span 0.1 to 100. Trained on stereo, the baseline of 0.54 m of KITTI counts as 0.1.
_MONODEPTH_RANGE = (0.1, 100.0)
_STEREO_METRES = 5.4
# Bian 2021: disparity 10 sigma + 0.01.
_SC_DEPTH_RANGE = (1 / 10.01, 100.0)
# Sizes that SC-Depth was trained at, by the data set that its files name; (width, height).
_SC_DEPTH_SIZES = {"kitti": (832, 256), "ddad": (640, 384), "nyu": (320, 256), "tum": (320, 256), "bonn": (320, 256)}
_USUAL_SIZE = (640, 192)
_LITE_MONO_WIDE = {(640, 192): False, (1024, 320): True}  # sizes it was published for, and which dilations they have
_LITE_MONO_PARTS = {
    "depthwise": "ddwconv.conv", "batch_norm": "bn1", "position.project": "pos_embd.token_projection",
    "attention_norm": "norm_xca", "attention_gamma": "gamma_xca", "attention.temperature": "xca.temperature",
    "attention.qkv": "xca.qkv", "attention.project": "xca.proj", "norm": "norm", "bottleneck.widen": "pwconv1",
    "bottleneck.narrow": "pwconv2", "bottleneck.gamma": "gamma",
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A network that was read from a published checkpoint.

    Attributes:
        family: "monodepth2", "Lite-Mono" or "SC-Depth".
        net: in eval mode, on the CPU.
        size_known: whether the file told the size it was trained at; otherwise it is the family's usual one.
    """

    family: str
    net: DepthNet
    size_known: bool


def read_published(source: Path, size: tuple[int, int] | None = None) -> Published:
    """Read a published checkpoint strictly.

    Args:
        source: a folder with `encoder.pth` and `depth.pth` (monodepth2, Lite-Mono), or a Lightning checkpoint.
        size: (width, height) the network was trained at, where the file does not say or says it wrongly.

    Raises:
        WeightsError: missing or unreadable files, other tensors than the family has, or values that are not finite.
        ValueError: a size that is not made of multiples of 32.
    """
    source = source.expanduser()
    return _folder(source, size) if source.is_dir() else _sc_depth(source, size)


def _folder(folder: Path, size: tuple[int, int] | None) -> Published:
    """monodepth2, or Lite-Mono, which saves its files in the same way."""
    encoder = read_checkpoint(folder / "encoder.pth", "encoder checkpoint", "encoder.pth with depth.pth beside it")
    decoder = read_checkpoint(folder / "depth.pth", "decoder checkpoint", "depth.pth with encoder.pth beside it")
    encoder, decoder = _tensors_of(encoder, folder / "encoder.pth"), _tensors_of(decoder, folder / "depth.pth")
    said = (encoder.pop("width", None), encoder.pop("height", None))
    stereo = bool(encoder.pop("use_stereo", False))
    known = all(type(side) is int for side in said)
    chosen = size or (said if known else _USUAL_SIZE)
    kind: ScaleKind = "metric" if stereo else "relative"
    metres = _STEREO_METRES if stereo else 1.0
    low, high = (metres * depth for depth in _MONODEPTH_RANGE)
    if "stem2.0.conv.weight" in encoder:
        name, state = _lite_mono(encoder, decoder, said if known else chosen, folder)
        return Published("Lite-Mono", _build(name, state, (low, high), kind, chosen, folder), known)
    state = _monodepth2(encoder, decoder, folder)
    return Published("monodepth2", _build("resnet18", state, (low, high), kind, chosen, folder), known)


def _monodepth2(encoder: Mapping[str, Any], decoder: Mapping[str, Any], folder: Path) -> dict[str, Tensor]:
    names = {f"encoder.{name}": ours for name, ours in _resnet_names(18).items()}
    state = _renamed(encoder, names, folder / "encoder.pth")
    return state | _renamed(decoder, _decoder_names(5, 4), folder / "depth.pth")


def _lite_mono(
    encoder: Mapping[str, Any], decoder: Mapping[str, Any], trained: tuple[int, int], folder: Path
) -> tuple[str, dict[str, Tensor]]:
    """Which of them it is, and its tensors."""
    path = folder / "encoder.pth"
    if trained not in _LITE_MONO_WIDE:
        width, height = trained
        raise WeightsError(
            f"{path}: Lite-Mono trained at {width}x{height} has dilations that the file does not tell; those of 640x192 "
            "and 1024x320 are known"
        )
    channels = tuple(getattr(encoder["stem2.0.conv.weight"], "shape", ()))[:1]
    blocks = len({name.split(".")[2] for name in encoder if name.startswith("stages.2.")}) - 1
    variants = {
        (kind.channels[:1], len(kind.dilations[2])): name
        for name, kind in LITE_MONO.items()
        if name.endswith("_wide") == _LITE_MONO_WIDE[trained]
    }
    if (channels, blocks) not in variants:
        raise WeightsError(f"{path}: no Lite-Mono has {list(channels)} channels first and {blocks} blocks in the end")
    variant = variants[channels, blocks]
    names = {theirs: f"encoder.{ours}" for ours, theirs in _lite_mono_names(variant).items()}
    # Every dilated block has a layer norm that the paper's does not: nothing has ever passed it, so nothing moved it.
    idle = [name.replace("bn1.weight", "norm") for name in names if name.endswith(".bn1.weight")]
    names |= {f"{norm}.{part}": "" for norm in idle for part in ("weight", "bias")}
    state = _renamed(encoder, names, path)
    if moved := [norm for norm in idle if encoder[f"{norm}.bias"].any()]:
        raise WeightsError(f"{path}: {moved[0]} has been trained, which the blocks of the paper do not have")
    return variant, state | _renamed(decoder, _decoder_names(3, 3), folder / "depth.pth")


def _lite_mono_names(variant: str) -> dict[str, str]:
    """Of our Lite-Mono encoder, the published ones."""
    with torch.device("meta"):
        ours = LITE_MONO[variant]().state_dict()
    names = {}
    for name in ours:
        part, number, rest = name.split(".", 2)
        if part == "stem":
            inner, tensor = rest.split(".")
            names[name] = f"downsample_layers.0.{number}.{'conv' if inner == '0' else 'bn_gelu.bn'}.{tensor}"
        elif part == "reductions":
            names[name] = f"{'stem2' if number == '0' else f'downsample_layers.{number}'}.0.conv.{rest}"
        else:
            block, rest = rest.split(".", 1)
            first = next(p for p in _LITE_MONO_PARTS if rest == p or rest.startswith(f"{p}."))
            names[name] = f"stages.{number}.{block}.{_LITE_MONO_PARTS[first]}{rest.removeprefix(first)}"
    return names


def _decoder_names(levels: int, heads: int) -> dict[str, str]:
    """Of a decoder that numbers its convolutions from the coarsest level on, then its heads from the finest on."""
    names: dict[str, str] = {}
    for i in range(levels):
        first = 2 * (levels - 1 - i)
        names |= {f"decoder.{first}.conv": f"decoder.reduce.{i}", f"decoder.{first + 1}.conv": f"decoder.fuse.{i}"}
    return _convolutions(names | {f"decoder.{2 * levels + i}": f"decoder.heads.{i}" for i in range(heads)})


def _sc_depth(path: Path, size: tuple[int, int] | None) -> Published:
    content = read_checkpoint(path, "checkpoint", "Lightning checkpoint of SC-Depth (or a folder of monodepth2)")
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(str(name).startswith("depth_net.") for name in state):
        raise WeightsError(f"{path} is no SC-Depth checkpoint (it has no `depth_net` tensors in `state_dict`)")
    # The pose network and what else served the training stay behind.
    tensors = _tensors_of({k: v for k, v in state.items() if str(k).startswith("depth_net.")}, path)
    layers = 50 if "depth_net.encoder.encoder.layer1.0.conv3.weight" in tensors else 18
    names = {f"depth_net.encoder.encoder.{name}": ours for name, ours in _resnet_names(layers).items()}
    convolutions = {f"depth_net.decoder.upconvs0.{4 - i}.conv": f"decoder.reduce.{i}" for i in range(5)}
    convolutions |= {f"depth_net.decoder.upconvs1.{4 - i}.conv": f"decoder.fuse.{i}" for i in range(5)}
    convolutions |= {f"depth_net.decoder.dispconvs.{i}": f"decoder.heads.{i}" for i in range(4)}
    state = _renamed(tensors, names | _convolutions(convolutions), path)
    known = _SC_DEPTH_SIZES.get(_data_set(content))
    chosen = size or known or _SC_DEPTH_SIZES["kitti"]
    net = _build(f"resnet{layers}", state, _SC_DEPTH_RANGE, "relative", chosen, path)
    return Published("SC-Depth", net, known is not None)


def _data_set(content: Mapping[str, Any]) -> str:
    """Name of the data set in Lightning's hyper-parameters, however they are wrapped."""
    parameters: Any = content.get("hyper_parameters", {})
    if isinstance(parameters, dict):
        parameters = parameters.get("hparams", parameters)
    if isinstance(parameters, Namespace):
        parameters = vars(parameters)
    return str(parameters.get("dataset_name", "")) if isinstance(parameters, dict) else ""


def _resnet_names(layers: int) -> dict[str, str]:
    """Of a ResNet in a published file, those in ours; its classifier has none."""
    with torch.device("meta"):
        ours = DepthNet(DepthNetConfig(f"resnet{layers}", WIDTHS)).encoder.state_dict()
    theirs = {name: name for name in ours if not name.startswith("layers.")}
    for name in ours.keys() - theirs.keys():
        _, stage, rest = name.split(".", 2)
        theirs[f"layer{int(stage) + 1}.{rest}"] = name
    return {name: f"encoder.{target}" for name, target in theirs.items()} | {"fc.weight": "", "fc.bias": ""}


def _convolutions(names: Mapping[str, str]) -> dict[str, str]:
    """Weight and bias of each; the convolutions of the heads lie one `conv` higher than the others."""
    return {f"{theirs}.conv.{part}": f"{ours if 'heads' in ours else ours + '.conv'}.{part}"
            for theirs, ours in names.items() for part in ("weight", "bias")}  # fmt: skip


def _tensors_of(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} holds no tensors by name: it is no published checkpoint")
    # Trained on several GPUs, every name has got a prefix.
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _renamed(tensors: Mapping[str, Any], names: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    if missing := sorted(names.keys() - tensors.keys()):
        raise WeightsError(f"{path} lacks {len(missing)} tensors, first {missing[0]}")
    if foreign := sorted(tensors.keys() - names.keys()):
        raise WeightsError(f"{path} has {len(foreign)} foreign tensors, first {foreign[0]}: another architecture?")
    if strange := sorted(name for name, value in tensors.items() if not isinstance(value, Tensor)):
        raise WeightsError(f"{path}: {strange[0]} is no tensor")
    return {names[name]: tensor.contiguous() for name, tensor in tensors.items() if names[name]}


def _build(
    encoder: str,
    state: dict[str, Tensor],
    depth_range: tuple[float, float],
    kind: ScaleKind,
    size: tuple[int, int],
    path: Path,
) -> DepthNet:
    # Lite-Mono decodes with half as many channels as it encodes.
    widths = tuple(c // 2 for c in LITE_MONO[encoder].channels) if encoder in LITE_MONO else WIDTHS
    config = DepthNetConfig(encoder, widths, *size, *depth_range, kind, padding="reflect", normalisation="grey")
    net = DepthNet(config)
    check_layout(net.state_dict(), state, path)
    check_finite({name: tensor.detach() for name, tensor in state.items()}, path)
    net.load_state_dict(state)
    return net.eval()

"""What a pickled network computes, as far as its tensors do not say: read from its modules, refused where we cannot."""

from typing import Any

from inference.model.astromae import CONV_GROUPS, DEPTH, WIDTH, Variant
from scripts.command.errors import CommandError
from scripts.models.conversion.names import INCEPTION_BLOCKS

INCEPTION = "inception_model.vis_inception"
JOINTS = ("vit_block.3", f"{INCEPTION}.13", "inception_model.magnitude_block.9")
"""Where activations stand behind the branches, in a network that has them."""

NORM_EPSILON, BATCH_NORM_EPSILON = 1e-6, 1e-5

Modules = dict[str, dict[str, Any]]


def read_variant(modules: Modules) -> Variant:
    """Return which variant of AstroMAE the modules are.

    Parameters
    ----------
    modules : dict
        Published module name to its class and plain attributes.

    Raises
    ------
    CommandError
        Naming every module that computes what no variant does.
    """
    top = modules.get("", {}).get("class")
    if top != "ViT_Astro":
        raise CommandError(f"The file holds a {top}, not the published network ViT_Astro.")
    faults: list[str] = []
    variant = Variant(
        num_heads=_same(modules, _cells("attn"), "num_heads", 0, faults),
        norm_epsilon=_same(modules, [*_cells("norm1"), *_cells("norm2")], "eps", 0.0, faults),
        has_joint_relus=_joints(modules, faults),
        pools_first=_pools_first(modules, faults),
    )
    if variant.num_heads <= 0 or WIDTH % variant.num_heads:
        faults.append(f"{variant.num_heads} attention heads do not divide {WIDTH}")
    else:
        _expect(modules, {name: {"scale": (WIDTH // variant.num_heads) ** -0.5} for name in _cells("attn")}, faults)
    _expect(modules, _fixed(), faults)
    batch_norms = [name for name, facts in modules.items() if facts["class"] == "BatchNorm2d"]
    _expect(modules, {name: {"eps": BATCH_NORM_EPSILON, "track_running_stats": True} for name in batch_norms}, faults)
    if faults:
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise CommandError(f"The file's network computes something else than AstroMAE: {'; '.join(faults[:8])}{more}.")
    return variant


def _cells(part: str) -> list[str]:
    return [f"blocks.{block}.{part}" for block in range(DEPTH)]


def _fixed() -> dict[str, dict[str, Any]]:
    """Return what must be so in every variant."""
    cell: dict[str, dict[str, Any]] = {
        "": {"class": "NormalCell", "class_token": True},
        ".mlp.act": {"class": "GELU"},
        ".PCM.0": {"class": "Conv2d", "groups": CONV_GROUPS, "kernel_size": 1, "stride": 1, "padding": 0},
        ".PCM.1": {"class": "BatchNorm2d"},
        ".PCM.2": {"class": "SiLU"},
        ".PCM.3": {"class": "Conv2d", "groups": CONV_GROUPS, "kernel_size": 1, "stride": 1, "padding": 0},
    }
    fixed = {f"blocks.{block}{part}": facts for block in range(DEPTH) for part, facts in cell.items()}
    fixed["fc_norm"] = {"class": "LayerNorm", "eps": NORM_EPSILON}
    fixed["patch_embed.proj"] = {"class": "Conv2d", "stride": 8, "padding": 0}
    for place in INCEPTION_BLOCKS:
        block = f"{INCEPTION}.{place}"
        fixed[block] = {"class": "InceptionBlock", "is_custom": place == INCEPTION_BLOCKS[-1]}
        for branch, padding in (("branch1", 0), ("branch2.0", 0), ("branch2.1", 1), ("branch3.0", 0), ("branch3.1", 2)):
            fixed[f"{block}.{branch}.conv"] = {"padding": padding, "stride": 1, "dilation": 1}
    fixed |= {f"{INCEPTION}.{place}": {"class": "AvgPool2d", "kernel_size": 2} for place in (4, 7)}
    hidden = ["vit_block.1", f"{INCEPTION}.11", "concat_block.1"]
    hidden += [f"inception_model.magnitude_block.{place}" for place in (1, 3, 5, 7)]
    return fixed | {name: {"class": "ReLU"} for name in hidden}


def _expect(modules: Modules, expected: dict[str, dict[str, Any]], faults: list[str]) -> None:
    for name, facts in expected.items():
        for key, value in facts.items():
            found = _one(modules.get(name, {}).get(key))
            is_equal = found == value or (isinstance(value, float) and found is not None and abs(found - value) < 1e-9)
            if not is_equal:
                faults.append(f"{name} has {key} {found}, not {value}")


def _one(value: Any) -> Any:
    """Return the number that stands for both directions, or the value as it is."""
    return value[0] if isinstance(value, list) and value and len(set(value)) == 1 else value


def _same(modules: Modules, names: list[str], key: str, otherwise: Any, faults: list[str]) -> Any:
    """Return the one value of an attribute in several modules."""
    values = {modules.get(name, {}).get(key) for name in names}
    value = values.pop()
    if values or value is None:
        faults.append(f"{names[0]} … {names[-1]} have several values of {key}, or none")
        return otherwise
    return value


def _joints(modules: Modules, faults: list[str]) -> bool:
    behind = {modules.get(name, {}).get("class") == "ReLU" for name in JOINTS}
    first = modules.get(f"{INCEPTION}.1.0", {}).get("class") == "ReLU"
    if behind != {first}:
        faults.append("some of the joints between the branches have activations and some have none")
    pooling = f"{INCEPTION}.1.1" if first else f"{INCEPTION}.1"
    _expect(modules, {pooling: {"class": "AvgPool2d", "kernel_size": 2}}, faults)
    return first


def _pools_first(modules: Modules, faults: list[str]) -> bool:
    branches = [f"{INCEPTION}.{place}.branch4" for place in INCEPTION_BLOCKS]
    first = modules.get(f"{branches[0]}.0", {}).get("class") == "MaxPool2d"
    place, kind = (0, "MaxPool2d") if first else (2, "AvgPool2d")
    window = {"class": kind, "kernel_size": 3, "stride": 1, "padding": 1}
    _expect(modules, {f"{branch}.{place}": window for branch in branches}, faults)
    return first

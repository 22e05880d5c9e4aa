"""Take the tensors out of a pickled module, in a process of its own: `python -m …conversion.unpickle FILE TO`.

A pickle is a program. This one may build tensors, and objects of `Stub`, which do nothing; whatever else it names is
refused before it is called. No code of the original network is imported, nor any layer of torch.
"""

import json
import pickle
import resource
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REFUSED = 3
"""Exit status: the file asks for something else."""

MAX_BYTES, MAX_CPU_S = 2**30, 120

NETWORK_CLASSES = frozenset(
    {
        "Attention",
        "ConvBlock",
        "DropPath",
        "InceptionBlock",
        "Input_Mix_Model",
        "Mlp",
        "NormalCell",
        "PatchEmbed",
        "ViT_Astro",
    }
)
"""Classes of the published network. Which modules they are in depends on who saved the file: a stub stands for any."""

LAYER_MODULES = ("torch.nn.modules.", "torch.nn.parallel.")

Plain = str | int | float | bool | list[Any] | None


class Stub:
    """Stands for a module of the pickled network: keeps its state, does nothing with it."""

    def __new__(cls, *_: object, **__: object) -> "Stub":
        """Ignore what the file wants to construct it from."""
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Take the attributes."""
        if isinstance(state, dict):
            self.__dict__.update(state)


class RestrictedUnpickler(pickle.Unpickler):
    """Resolves names by an allow-list; see the module."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the file stands for.

        Raises
        ------
        pickle.UnpicklingError
            If nothing here stands for it.
        """
        import torch

        harmless = {
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "set"): set,
            ("__builtin__", "set"): set,
            ("torch", "device"): torch.device,
            ("torch", "Size"): torch.Size,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
        }
        if (module, name) in harmless:
            return harmless[module, name]
        is_layer = module.startswith(LAYER_MODULES) and name.isidentifier()
        is_network = name in NETWORK_CLASSES and not module.startswith("torch")
        if is_layer or is_network:
            return type(name, (Stub,), {})
        raise pickle.UnpicklingError(f"{module}.{name}")


def read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Plain]]]:
    """Return every tensor by its name, and every module by its own with class and plain attributes.

    Raises
    ------
    pickle.UnpicklingError
        Naming what the file asks for, or saying that it is not a file of torch.save.
    """
    import torch

    _refuse_other_formats(path)
    restricted = types.ModuleType("restricted_pickle")
    restricted.Unpickler = RestrictedUnpickler  # type: ignore[attr-defined]
    restricted.load = lambda file, **options: RestrictedUnpickler(file, **options).load()  # type: ignore[attr-defined]
    with path.open("rb") as file:
        top = torch.load(file, map_location="cpu", pickle_module=restricted, weights_only=False)
    if not isinstance(top, Stub):
        raise pickle.UnpicklingError(f"a {type(top).__name__} at its top, not a module")
    if type(top).__name__ == "DataParallel":
        top = top.__dict__.get("_modules", {}).get("module", top)
    tensors: dict[str, Any] = {}
    modules: dict[str, dict[str, Plain]] = {}
    for name, module in _walk(top, "", depth=0):
        modules[name] = {"class": type(module).__name__, **_plain(module)}
        for kind in ("_parameters", "_buffers"):
            for key, tensor in module.__dict__.get(kind, {}).items():
                if isinstance(tensor, torch.Tensor):
                    tensors[f"{name}.{key}" if name else key] = tensor.detach().clone().contiguous()
    return tensors, modules


def main() -> None:
    """Write the tensors to a safetensors file whose metadata describe the modules."""
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES, MAX_BYTES))
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        tensors, modules = read(source)
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        raise SystemExit(REFUSED) from None
    from safetensors.torch import save_file

    save_file(tensors, target, {"modules": json.dumps(modules)})


def _refuse_other_formats(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise pickle.UnpicklingError("no zip archive, as torch.save writes since version 1.6")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        size = sum(entry.file_size for entry in archive.infolist())
    if any(name.endswith("constants.pkl") for name in names):
        raise pickle.UnpicklingError("a TorchScript archive, which holds code")
    if size > MAX_BYTES:
        raise pickle.UnpicklingError(f"{size:,} bytes; the network has 64 million")


def _walk(module: Stub, name: str, *, depth: int) -> Iterator[tuple[str, Stub]]:
    yield name, module
    if depth > 20:
        raise pickle.UnpicklingError("modules inside modules without end")
    for key, child in module.__dict__.get("_modules", {}).items():
        if isinstance(child, Stub):
            yield from _walk(child, f"{name}.{key}" if name else str(key), depth=depth + 1)


def _plain(module: Stub) -> dict[str, Plain]:
    """Return the attributes that are numbers, words, or lists of them."""
    found: dict[str, Plain] = {}
    for key, value in module.__dict__.items():
        if isinstance(value, str | int | float | bool):
            found[key] = value
        elif isinstance(value, tuple | list) and all(isinstance(one, str | int | float | bool) for one in value):
            found[key] = list(value)
    return found


if __name__ == "__main__":
    main()

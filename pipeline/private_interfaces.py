"""All that we use of other packages and that they do not document, so that an upgrade shows what broke.

`tests/test_private_interfaces.py` has a test for each. torchvision's detectors are extended where they are
built, in `models/faster_rcnn.py` and `models/fcos.py`; what they rely on is tested there, too. Imports are
inside the functions, since few callers need torch.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def raster_copy_error() -> type[Exception]:
    """Return the error of a copy that GDAL can't write: rasterio raises it, and has no public name for it."""
    from rasterio._err import CPLE_BaseError

    return CPLE_BaseError


def gdal_error_name(error: BaseException) -> str:
    """Return the class of GDAL's error behind one of rasterio's, e.g. CPLE_AWSAccessDeniedError.

    rasterio has no public name for these classes, and its own error says only what GDAL said last.
    """
    return type(error.__cause__ or error.__context__).__name__


def register_vector_drivers() -> None:
    """Register all drivers of pyogrio's GDAL again, without those that its setting `GDAL_SKIP` names.

    pyogrio does so once, when it is imported, and has no public function for it.
    """
    ogr: Any = importlib.import_module("pyogrio._ogr")
    ogr._register_drivers()


def without_unusable_proxies() -> None:
    """Keep httpx, which only Prefect uses here, from failing on proxies that it does not know.

    It makes a connection pool for each proxy of the environment at once, also where a client needs none of
    them: `socks://`, or SOCKS without the package socksio, and no client can be made at all.
    """
    from httpx import URL, InvalidURL, Proxy

    client: Any = importlib.import_module("httpx._client")
    of_environment = client.get_environment_proxies
    if getattr(of_environment, "leaves_out", False):
        return

    def usable() -> dict[str, str | None]:
        return {pattern: url for pattern, url in of_environment().items() if is_usable(pattern, url)}

    def is_usable(pattern: str, url: str | None) -> bool:
        try:
            URL(pattern)
            scheme = Proxy(url).url.scheme if url else ""
        except (ValueError, InvalidURL):
            return False
        return not scheme.startswith("socks") or find_spec("socksio") is not None

    usable.leaves_out = True  # type: ignore[attr-defined]
    client.get_environment_proxies = usable


def without_telemetry() -> None:
    """Keep OpenVINO, imported afterwards, from reporting to its makers, which it does without asking."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


@contextmanager
def without_compiler() -> Iterator[None]:
    """Keep torchvision, imported in the block, from importing PyTorch's compiler and SymPy: a second.

    It wants one function of them, which it calls on GPUs that are to be deterministic. They are imported when
    it is called.
    """
    name = "torch._dynamo.utils"
    if name in sys.modules:
        yield
        return

    def is_compile_supported(device_type: str) -> bool:
        return bool(importlib.import_module(name).is_compile_supported(device_type))

    stub = ModuleType(name)
    stub.is_compile_supported = is_compile_supported  # type: ignore[attr-defined]
    sys.modules[name] = stub
    try:
        yield
    finally:
        del sys.modules[name]


def with_fused_norms(network: nn.Module) -> nn.Module:
    """Return a network with its batch norms in its convolutions, or as it is if PyTorch can't trace it.

    It can't where a network asks for the shape of its input. What it computes is the same either way.
    """
    from torch import nn
    from torch.fx.experimental.optimization import fuse
    from torch.fx.proxy import TraceError

    for module in network.modules():  # PyTorch finds no subclasses; at inference they are all the same
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = nn.BatchNorm2d
    try:
        return fuse(network)
    except TraceError:
        return network


def operations_to(watch: Callable[[Any, Any, Any], Any]) -> AbstractContextManager[object]:
    """Call `watch(operation, args, kwargs)`, which returns its result, for each ATen operation."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return watch(func, args, kwargs or {})

    return Watch()  # type: ignore[no-untyped-call]


def arguments_of(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an ATen operation by name, in its own order, with its defaults.

    In its own order the first tensor is the one that an in-place operation writes to.
    """
    arguments = operation._schema.arguments
    given = {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}
    given |= {argument.name: value for argument, value in zip(arguments, args, strict=False)} | kwargs
    return {argument.name: given[argument.name] for argument in arguments if argument.name in given}


def is_in_place(operation: Any) -> bool:
    """Return True if an ATen operation writes to one of its arguments."""
    return bool(operation._schema.is_mutable)


def callback_state(checkpoint: Mapping[str, Any], callback: type) -> dict[str, Any]:
    """Return what a callback of Lightning keeps in a checkpoint; nothing if the training had none."""
    states = checkpoint["callbacks"].items()
    return next((state for name, state in states if name.startswith(callback.__qualname__)), {})

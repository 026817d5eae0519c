"""TensorRT, or TensorRT for RTX, whichever is installed: one builder and runtime API under two names."""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any

from worldgen.errors import BackendUnavailableError

MODULES = {"tensorrt": "trt", "tensorrt_rtx": "rtx"}  # TensorRT first: it knows every data-centre GPU
ON_CPUS = "the ONNX graphs run on the CPU: use --backend onnxruntime"


@dataclass(frozen=True)
class Library:
    """module: tensorrt or tensorrt_rtx; kind: trt or rtx."""

    module: Any
    kind: str

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    def logger(self) -> Any:
        """Keeps the errors that TensorRT only logs: its calls return None."""

        class Logger(self.module.ILogger):  # type: ignore[name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if int(severity) <= 1:  # internal error, error
                    self.errors.append(" ".join(message.split()))

            @property
            def last_error(self) -> str:
                return self.errors[-1][:300] if self.errors else "no reason given"

        return Logger()


@dataclass(frozen=True)
class Gpu:
    """name: as the driver calls it; capability: of compute, 9.0 is 90."""

    name: str
    capability: int

    @property
    def slug(self) -> str:
        words = "".join(c if c.isalnum() else " " for c in self.name.lower()).split()
        return "-".join(word for word in words if word != "nvidia") + f"-sm{self.capability}"


def find_library() -> Library:
    """Raises BackendUnavailableError, with what to install, where neither can be imported."""
    reasons = []
    for name, kind in MODULES.items():
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                continue
            reasons.append(f"{name}: {error}")
        except (ImportError, OSError, RuntimeError) as error:  # its libraries are missing
            reasons.append(f"{name}: {error}")
        else:
            if hasattr(module, "Builder"):  # some packages of this name are placeholders
                return Library(module, kind)
            reasons.append(f"{name} has no builder")
    if reasons:
        raise BackendUnavailableError(
            f"TensorRT is incomplete ({' '.join(reasons[0].split())[:200]}): its libraries come from NVIDIA's package "
            f"index; {ON_CPUS}"
        )
    raise BackendUnavailableError(
        "TensorRT is not installed: pip install 'worldgen[tensorrt]' (or 'worldgen[rtx]' for GeForce RTX cards); "
        f"without a GPU {ON_CPUS}"
    )


def has_driver() -> bool:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def find_gpu() -> Gpu:
    """The GPU that torch uses. Raises BackendUnavailableError where there is none."""
    if not has_driver():
        raise BackendUnavailableError(f"no NVIDIA driver found (libcuda.so.1): {ON_CPUS}")
    import torch

    if not torch.cuda.is_available():
        raise BackendUnavailableError(f"torch {torch.__version__} finds no CUDA GPU: look at `nvidia-smi`; {ON_CPUS}")
    major, minor = torch.cuda.get_device_capability()
    return Gpu(torch.cuda.get_device_name(), 10 * major + minor)

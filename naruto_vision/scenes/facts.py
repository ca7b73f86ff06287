"""What a run records about the software it ran on."""

import importlib.metadata
import platform

_PACKAGES = (
    "naruto-vision",
    "torch",
    "lightning",
    "open-clip-torch",
    "segment-anything",
    "faiss-cpu",
    "faiss-gpu",
    "numpy",
    "pillow",
)


def software_versions() -> dict[str, str]:
    """Return the versions that can change results: Python's and those of the packages that compute."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions

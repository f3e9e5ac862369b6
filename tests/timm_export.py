"""Loads what `fresnel export` wrote into timm's model of the same configuration, and compares logits.

    python3 tests/timm_export.py EXPORT.safetensors CONFIG.json INPUT.safetensors LOGITS.safetensors

CONFIG is the hub's config.json of the checkpoint, INPUT holds a tensor `input`, LOGITS what `fresnel run`
made of it.
Needs PyTorch, timm and safetensors.
"""

import json
import sys

import timm
import torch
from safetensors.torch import load_file

# As a share of the largest logit: both are f32, in another order of sums.
TOLERANCE = 1e-4


def main():
    """Compare; 1 where the logits differ."""
    exported, config, pixels, logits = sys.argv[1:]
    with open(config, encoding="utf-8") as file:
        config = json.load(file)
    arguments = dict(config.get("model_args") or {})
    for name in ("num_classes", "global_pool"):
        if name in config:
            arguments.setdefault(name, config[name])
    model = timm.create_model(config["architecture"], pretrained=False, **arguments)
    # Strict: a missing, superfluous or misshapen tensor is an error.
    model.load_state_dict(load_file(exported), strict=True)
    with torch.inference_mode():
        found = model.eval()(load_file(pixels)["input"])
    expected = load_file(logits)["logits"]
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    print(f"{config['architecture']}: {error:.1e} of the largest logit")
    return 0 if found.shape == expected.shape and error <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())

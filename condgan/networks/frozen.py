"""Weights that training leaves as they are."""

from condgan.types import Backbone
from condgan.utils.errors import UserError


def freeze_lowest(backbone: Backbone, stages: int) -> None:
    """Freeze a backbone's lowest stages, those next to the image (Mo et al. 2020).

    Their weights become buffers, so that nothing that moves weights finds any: no gradient, no optimizer, no penalty,
    no power iteration, no exchange between processes. They are saved and loaded under the same names.
    Raises UserError for more stages than there are.
    """
    there = backbone.stages() if stages else []
    if stages > len(there):
        raise UserError(
            f"transfer.frozen {stages} given: this backbone has {len(there)} stages at this size; set a lower number"
        )
    for layer in [layer for stage in there[:stages] for layer in stage.modules()]:
        for name, weight in list(layer.named_parameters(recurse=False)):
            delattr(layer, name)
            layer.register_buffer(name, weight.detach())

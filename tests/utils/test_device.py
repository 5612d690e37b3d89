"""What all threads of a process share."""

import torch

from condgan.utils.device import tf32


def test_tf32_is_given_back_by_the_last_who_asked() -> None:
    def allowed() -> bool:
        return torch.backends.cudnn.allow_tf32

    before, first, second, inner = allowed(), tf32(False), tf32(False), tf32(True)
    with first:
        assert not allowed()
        second.__enter__()
    assert not allowed()
    with inner:
        assert allowed()
    assert not allowed()
    second.__exit__(None, None, None)
    assert allowed() == before

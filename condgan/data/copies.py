"""Copies: pictures of a listing whose files are the same."""

import numpy as np
import torch
from jaxtyping import Int, UInt8

from condgan.data.listing import Listing, hold_out, strata
from condgan.utils.errors import shown


def contents_of(digests: UInt8[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
    """A number for each digest, the same for the same one."""
    rows = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel()
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)


def keep_together(listing: Listing, contents: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    """Places of a listing in an order that has copies on one side of the split, and how many are to train on.

    Only where the split is ours, not the source's; without copies it stays as it is.
    """
    if listing.share is None or len(np.unique(contents)) == len(contents):
        return np.arange(len(listing)), listing.train
    order = np.argsort(listing.numbers)
    index = strata(listing.labels)[order] if listing.pairs is None else np.zeros(len(order), int)
    together = contents if listing.pairs is None else _merged(contents, listing.pairs)
    train, held_out = hold_out(index, listing.share, together[order])
    return order[np.concatenate([train, held_out])], len(train)


def _merged(first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The same number for what has the same of either kind, directly or by way of others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(first.max()) + 1
    links = coo_array((np.ones(len(first)), (first, second + size)), shape=(size + int(second.max()) + 1,) * 2)
    return connected_components(links, directed=False)[1][first].astype(np.int64)


def same_contents(contents: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " m"]]:
    """Places of the same content, where there are several."""
    order = np.argsort(contents, kind="stable")
    _, starts, sizes = np.unique(contents[order], return_index=True, return_counts=True)
    several = sizes > 1
    return [order[start : start + size] for start, size in zip(starts[several], sizes[several], strict=True)]


def said_of_copies(listing: Listing, contents: Int[np.ndarray, " n"]) -> list[str]:
    """Tell of copies that are both trained on and held out, and of those with different labels."""
    found, codes, said = same_contents(contents), listing.labels.codes, []
    across = [places for places in found if places[0] < listing.train <= places[-1]]
    if across:
        share = ", or hold out a share of the training images with data.held_out=0.1 (or --held-out 0.1)"
        said.append(
            f"{len(across):,} picture{'s are' if len(across) > 1 else ' is'} both trained on and held out, such as "
            f"{_named(listing, across[0])}: remove the copies{share * (listing.share is None)}"
        )
    if differ := [places for places in found if len(torch.unique(codes[torch.from_numpy(places)], dim=0)) > 1]:
        said.append(
            f"{len(differ):,} picture{'s have' if len(differ) > 1 else ' has'} several labels, such as "
            f"{_named(listing, differ[0])}: leave the right one"
        )
    return said


def _named(listing: Listing, places: Int[np.ndarray, " m"]) -> str:
    """Copies by name: the first, and the last, which are of both sides where any are."""
    return f"'{shown(listing.names[places[0]], 60)}' = '{shown(listing.names[places[-1]], 60)}'"

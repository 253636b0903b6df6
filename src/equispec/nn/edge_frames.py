"""Frames whose third axis lies along an edge, and spherical tensors in them.

R_e r̂ = ẑ leaves open how the frame is rolled about the edge; the policies here are those of HDGNN (An et al., ICLR
2024), plus ones that neither draw numbers nor depend on the rest of a batch. No angles are used, so that edges along an
axis are like any other.
"""

from math import pi, sqrt
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from equispec.nn.so3 import ORDER, stretched, wigner_d

Roll = Literal["random", "seeded", "axis", "local"]
PARALLEL = 0.95  # cosine of two edges above which one says nothing of the other's roll
# cosine with the z axis above which the x axis is taken instead; which axis is least parallel would depend on rounding
# errors where bonds lie along the axes, as they do in crystals and in symmetric molecules
ALONG = 0.9
BLENDED = (0.8, 0.95)  # cosines between which frames by either axis share an edge, where frames must change smoothly
GOLDEN = (sqrt(5) - 1) / 2


def edge_frames(
    unit: Float[Tensor, "edges 3"],
    distance: Float[Tensor, "edges"],
    receiver: Int[Tensor, "edges"],
    number: Int[Tensor, "edges"],
    roll: Roll,
    seed: int = 0,
) -> Float[Tensor, "edges 3 3"]:
    """Proper rotations R_e with R_e r̂ = ẑ for unit vectors r̂ of edges sorted by receiver.

    axis: the x axis of the frame is normal to the z axis, or to the x axis for edges along z; random: rolled by
    an angle drawn anew each time; seeded: by one that follows from the seed and from `number`, that of the edge in its
    structure; local: normal to the nearest other edge of the receiver that is not parallel, so that frames turn with
    the structure (as axis, where there is none).
    """
    axes = torch.eye(3, dtype=unit.dtype, device=unit.device)
    aside = torch.where(unit[:, 2:].abs() < ALONG, axes[2], axes[0])
    if roll == "local":
        aside = _other_edge(unit, distance, receiver, aside)
    x, y = _across(unit, aside)
    if roll in ("random", "seeded"):
        turns = torch.rand_like(distance) if roll == "random" else _golden(number, seed).to(unit)
        cos, sin = torch.cos(2 * pi * turns)[:, None], torch.sin(2 * pi * turns)[:, None]
        x, y = cos * x + sin * y, cos * y - sin * x
    return torch.stack([x, y, unit], dim=1)


def smooth_frames(
    unit: Float[Tensor, "edges 3"],
) -> tuple[Int[Tensor, "frames"], Float[Tensor, "frames 3 3"], Float[Tensor, "frames"]]:
    """Edges, frames and shares: as rolled by `axis`, but between two cosines with the z axis an edge has both frames.

    No single frame changes smoothly with the direction of the edge everywhere. The shares, which add up to 1, do, with
    their first and second derivatives, and so does what is summed over the frames of an edge with its shares.
    """
    low, high = BLENDED
    t = ((unit[:, 2].abs() - low) / (high - low)).clamp(0, 1)
    by_x = t**3 * (10 - 15 * t + 6 * t**2)
    z_edges, x_edges = (by_x < 1).nonzero()[:, 0], (by_x > 0).nonzero()[:, 0]
    index = torch.cat([z_edges, x_edges])
    axes = torch.eye(3, dtype=unit.dtype, device=unit.device)
    aside = torch.cat([axes[2].expand(len(z_edges), 3), axes[0].expand(len(x_edges), 3)])
    x, y = _across(unit[index], aside)
    return index, torch.stack([x, y, unit[index]], dim=1), torch.cat([1 - by_x[z_edges], by_x[x_edges]])


def _across(
    unit: Float[Tensor, "edges 3"], aside: Float[Tensor, "edges 3"]
) -> tuple[Float[Tensor, "edges 3"], Float[Tensor, "edges 3"]]:
    """The other two axes of frames, the first one normal to `aside`."""
    x = torch.nn.functional.normalize(torch.linalg.cross(unit, aside), dim=1)
    return x, torch.linalg.cross(unit, x)


def _golden(number: Int[Tensor, "edges"], seed: int) -> Float[Tensor, "edges"]:
    """Parts of a turn in double precision, which tells large numbers and seeds apart."""
    return ((number + 1).double() * GOLDEN + seed * sqrt(2) % 1) % 1


def _other_edge(
    unit: Float[Tensor, "edges 3"],
    distance: Float[Tensor, "edges"],
    receiver: Int[Tensor, "edges"],
    default: Float[Tensor, "edges 3"],
) -> Float[Tensor, "edges 3"]:
    """The direction of the nearest edge of the same receiver that is not parallel to the edge."""
    if len(receiver) == 0:
        return default
    rank = ranks(distance, receiver)
    n, most = int(receiver[-1]) + 1, int(rank.max()) + 1
    by_rank = torch.full((n, most), -1, device=unit.device)
    by_rank[receiver, rank] = torch.arange(len(receiver), device=unit.device)
    others = by_rank[receiver]  # [edges, most], from the nearest on
    cosines = torch.einsum("ea,eka->ek", unit, unit[others])
    good = (others >= 0) & (cosines.abs() < PARALLEL)
    chosen = others.gather(1, good.to(torch.uint8).argmax(1, keepdim=True))[:, 0]
    return torch.where(good.any(1, keepdim=True), unit[chosen], default)


def ranks(distance: Float[Tensor, "edges"], receiver: Int[Tensor, "edges"]) -> Int[Tensor, "edges"]:
    """How many edges of the same receiver are nearer; equal ones count in their order."""
    by_distance = torch.argsort(distance, stable=True)
    order = by_distance[torch.argsort(receiver[by_distance], stable=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    counts = torch.bincount(receiver) if len(receiver) else receiver
    return place - (counts.cumsum(0) - counts)[receiver]


def inner_rotations(frames: Float[Tensor, "edges 3 3"], top: int) -> list[Float[Tensor, "edges _rows _components"]]:
    """The rows |m| <= 1 of D^(l)(R_e) for l = 0 ... top: one row for l = 0, three for any other.

    The row m = 0 of D^(l) is Y^(l) of the edge and the rows m = ±1 are its derivatives along the other two axes of the
    frame, all of them scaled to norm 1.
    """
    x, y, z = frames.unbind(1)
    axes = torch.stack([y, z, x], dim=1)[:, :, ORDER]  # in the order m = -1, 0, 1
    value = [torch.full_like(axes[..., :1], 1 / sqrt(4 * pi)) * axes.new_tensor([0, 1, 0])[:, None]]
    along, aside = axes[:, 1], axes * axes.new_tensor([1, 0, 1])[:, None]
    for degree in range(1, top + 1):
        below = value[-1]
        # products of the edge with Y below and its derivatives, and those of the axis, in a derivative, with Y below
        products = along[:, None, :, None] * below[:, :, None, :] + aside[..., None] * below[:, 1:2, None, :]
        value.append(products.flatten(2) @ torch.as_tensor(stretched(degree)).to(frames))
    rows = [torch.ones_like(value[0][:, 1:2])]
    for degree in range(1, top + 1):
        scale = sqrt(4 * pi / (2 * degree + 1))
        side = scale / sqrt(degree * (degree + 1) / 2)
        rows.append(value[degree] * frames.new_tensor([side, scale, side])[:, None])
    return rows


def rotations(
    frames: Float[Tensor, "edges 3 3"], top: int, most: int
) -> list[Float[Tensor, "edges _rows _components"]]:
    """The rows |m| <= most of D^(l)(R_e) for l = 0 ... top."""
    if most == 1:
        return inner_rotations(frames, top)
    whole = wigner_d(frames, top)
    return [d[:, max(0, degree - most) : degree + most + 1] for degree, d in enumerate(whole)]

"""Messages of HDGNN: neural pathways and tensor products, each with an attention of every channel."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from equispec.models.hdgnn.config import HDGNNConfig
from equispec.models.hdgnn.edges import TensorEdges
from equispec.models.hdgnn.pathways import PATHWAYS, Atoms, Pathways
from equispec.nn.degree_products import EdgeCouplings, FullProduct, MeanProduct


class Messages(nn.Module):
    """Σ_e m_e over the edges of one resolution, from the normalised tensors of the atoms.

    `first`: of the first layer, where these are of degree 0 alone; neural pathways look at no other component then.
    """

    def __init__(self, config: HDGNNConfig, top: int, hidden: int, couplings: EdgeCouplings, first: bool) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.couplings = [couplings]  # shared by all layers: in a list, it is no part of this one
        self.mean = config.product == "mean"
        self.pathways: Pathways | None = None
        if config.pathway != "none":
            in_first, in_others = PATHWAYS[config.pathway]
            self.pathways = (in_first if first else in_others)(config, top, hidden)
        self.product: nn.Module | None = None
        if config.product == "mean":
            shared = config.product_weights == "shared"
            self.product = MeanProduct(couplings, config.product_degree, config.features, shared)
        elif config.product == "full":
            self.product = FullProduct(couplings, config.product_degree, config.features)
        self.full_degree = MeanProduct(couplings, top, 1) if config.full_degree_branch else None

    def forward(
        self, x: Atoms, c: Float[Tensor, "edges B"], f: Float[Tensor, "atoms C0"], edges: TensorEdges
    ) -> Float[Tensor, "atoms components channels"]:
        a = self.attention(c, f, edges)
        if edges.envelope is not None:
            a = a * edges.envelope[:, None, None]
        neural, products = a.tensor_split([a.shape[1] - (self.product is not None) - (self.full_degree is not None)], 1)
        total = torch.zeros_like(x) if self.pathways is None else self.pathways(x, c, edges, neural)
        if self.product is not None:
            z = self.couplings[0](edges.maps, self._coupled(x, edges))
            message = self.product(z) * products[:, :1]
            summed = x.new_zeros(len(x), *message.shape[1:]).index_add(0, edges.receiver, message)
            total = total + nn.functional.pad(summed, (0, 0, 0, x.shape[1] - summed.shape[1]))
            if self.full_degree is not None:
                total = total.index_add(0, edges.receiver, self.full_degree(z) * products[:, 1:])
        return total

    def _coupled(self, x: Atoms, edges: TensorEdges) -> Float[Tensor, "edges components coupled"]:
        """x_s + x_t of every edge, or their mean over the channels."""
        u = x.mean(2, keepdim=True) if self.mean else x
        return u[edges.sender] + u[edges.receiver]


class Attention(nn.Module):
    """a_e [edges, branches, C] from c_e and the invariants of both atoms: one number for each branch and channel."""

    fixed: Tensor

    def __init__(self, config: HDGNNConfig) -> None:
        super().__init__()
        b, c0 = config.edge_features, config.invariants
        self.shape = config.branches, config.features
        self.kind = config.attention
        self.activation = silu if config.gradients else torch.relu  # forces jump where ReLU bends
        if isinstance(config.attention, tuple):
            self.register_buffer("fixed", torch.tensor(config.attention), persistent=False)
        else:
            self.first = nn.Linear(b + 2 * c0, (b + 2 * c0) // 4)
            self.second = nn.Linear((b + 2 * c0) // 4, config.branches * config.features)

    def forward(
        self, c: Float[Tensor, "edges B"], f: Float[Tensor, "atoms C0"], edges: TensorEdges
    ) -> Float[Tensor, "edges branches channels"]:
        if isinstance(self.kind, tuple):
            return self.fixed[:, None].expand(len(c), *self.shape)
        sizes = [c.shape[1], f.shape[1], f.shape[1]]
        of_edge, of_source, of_target = self.first.weight.split(sizes, dim=1)
        inner = nn.functional.linear(c, of_edge, self.first.bias)
        inner = inner + (f @ of_source.T)[edges.sender] + (f @ of_target.T)[edges.receiver]
        scores = self.second(self.activation(inner)).unflatten(1, self.shape)
        return torch.sigmoid(scores) if self.kind == "sigmoid" else torch.softmax(scores, dim=1)

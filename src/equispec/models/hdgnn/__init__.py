"""HDGNN: spherical tensors of every atom, in messages that are partly free of the constraint of equivariance.

An, Qu, Zhou, Cao, Xu, Qi & Shen, "Hybrid Directional Graph Neural Network for Molecules", ICLR 2024. Notation and
equation numbers are the paper's; where it is silent, the authors' code is followed, as said in docs/adr/017-hdgnn.md.
A layer turns the tensors x and the invariants f of the atoms, for an edge e from s to t (r̂ points from the receiver t
to s), into

    c_e = SiLU dense SiLU(Emb(z_s) + Emb(z_t) + dense(d)),     a = σ dense ReLU dense [c_e, f_s, f_t]
    N_q(x) = NN_q(P (D - 1) x) + NN_q(P x)                         P: rows |m| <= mmax, D: into the frame of the edge
    m_e = Dᵀ Pᵀ [a_1 N_1(x_s) + a_2 N_1(x_t) + a_3 N_2(x_s + x_t)] + a_4 METP(x_s + x_t, r̂)            (eq 7, 10, 11)
    x_t <- SH[MLP(x_t(r̂), x_t(-r̂), m_t(r̂), m_t(-r̂))],     m_t = Σ_e m_e                                (eq 12, 13)
    f_t <- SiLU(f_t + 2/3 dense(Σ_e c_e))                                                 (not in the last layer)

with x normalised by degree in the messages. Components are those of nn/so3.py: the polar axis is z.
"""

from equispec.models.hdgnn.config import HDGNNConfig
from equispec.models.hdgnn.model import HDGNN

__all__ = ["HDGNN", "HDGNNConfig"]

"""Configuration of HDGNN: the options of the paper, of its ablations (Tables 3 to 5) and of the public code."""

from math import isfinite
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from equispec.config import Config
from equispec.nn.edge_frames import Roll

LEAST_DEGREE = 4  # of the far edges, in the form with two resolutions

PRESETS: dict[str, dict[str, Any]] = {
    "physics": {},
    "paper-code": {
        "max_neighbors": 40,
        "features": 128,
        "blocks": 16,
        "degree": 6,
        "hidden": 512,
        "resolutions": 2,
        "full_degree_branch": True,
        "excitation": "mean",
        "output_points": "scn",
        "eval_roll": "random",
        "initial_weights": "public",
        "elements": 90,
    },
}


class HDGNNConfig(Config):
    """Configuration of HDGNN. `preset: paper-code` sets what the public code does; options given win over it."""

    name: Literal["hdgnn"] = "hdgnn"
    preset: Literal["physics", "paper-code"] = "physics"
    cutoff: PositiveFloat = Field(8.0, le=100, description="Å")
    max_neighbors: PositiveInt | None = Field(
        None, description="keep only the nearest, equal ones together; None: all within the cutoff"
    )
    features: PositiveInt = Field(64, le=8192, description="channels C of every component of x")
    blocks: PositiveInt = Field(4, description="layers K")
    degree: int = Field(4, ge=1, le=11, description="highest degree L of x")
    product_degree: NonNegativeInt = Field(2, description="highest degree L' of the tensor product")
    hidden: PositiveInt = Field(256, description="width H of the neural pathways")
    invariants: PositiveInt = Field(256, description="channels C0 of f")
    edge_features: PositiveInt = Field(128, description="channels B of c")
    n_radial: int = Field(400, ge=2, description="Gaussians of the distance")
    radial_width: PositiveFloat = Field(2.0, description="their width over their spacing")
    elements: PositiveInt = Field(100, description="rows of the embedding tables; row Z")
    mmax: PositiveInt = Field(1, description="orders |m| that neural pathways see, in the frame of the edge")
    pathway: Literal["mlp", "linear", "unrestricted", "none"] = Field(
        "mlp", description="linear: equivariant; unrestricted: in the frame of the laboratory; none: only the product"
    )
    pathway_input: Literal["split", "rotated"] = Field("split", description="rotated: NN(P D x) instead of N(x)")
    shared: bool = Field(True, description="one network for both arguments of N and for source and target")
    product: Literal["mean", "full", "none"] = Field("mean", description="full: of all channels, not of their mean")
    product_weights: Literal["path", "shared"] = Field("path", description="shared: after the sum over paths (eq 7)")
    full_degree_branch: bool = Field(False, description="a fifth branch: a product of one channel and all degrees")
    attention: Literal["sigmoid", "softmax"] | tuple[float, ...] = Field(
        "sigmoid", description="softmax: over the branches; numbers: fixed ones"
    )
    layer_norm: bool = True
    node_linear: bool = Field(False, description="a linear map of each degree before the messages")
    resolutions: Literal[1, 2] = Field(1, description="2: a smaller network for edges that are not the nearest")
    near: PositiveInt = Field(12, description="edges of a receiver that count as its nearest, with two resolutions")
    grid_resolution: PositiveInt = Field(1, description="times 2(L+1) by 2(L+1)+1 points")
    excitation: Literal["none", "mean", "quadrature"] = Field(
        "quadrature", description="squeeze and excite, by the plain mean over the grid or that over the sphere"
    )
    samples: PositiveInt = Field(128, description="points of the output block")
    output_points: Literal["unit", "scn"] = Field("unit", description="scn: scaled by their density, as in SCN")
    invariant_weight: NonNegativeFloat = Field(0.0, description="λ of a network of f beside that of x; 0: none")
    initial_weights: Literal["scaled", "public"] = Field(
        "scaled", description="weights that keep the size of features; public: PyTorch's, which shrink it"
    )
    roll: Roll = Field("random", description="how frames are rolled in training: random, seeded, axis or local")
    eval_roll: Roll = Field(
        "axis",
        description="and in evaluation; seeded depends on the order of atoms, local on which of equals is nearest",
    )
    roll_seed: NonNegativeInt = 0
    envelope: bool = Field(False, description="messages vanish at the cutoff")
    gradients: bool = Field(
        False, description="frames follow the positions in derivatives and SiLU replaces ReLU; rolls must be axis"
    )

    @field_validator("attention", mode="before")
    @classmethod
    def _known_attention(cls, value: Any) -> Any:
        numbers = isinstance(value, list | tuple) and all(type(x) in (int, float) and isfinite(x) for x in value)
        if not numbers and value not in ("sigmoid", "softmax"):
            raise ValueError("must be sigmoid, softmax or a list of numbers, one for each branch")
        return value

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        preset = PRESETS.get(values.get("preset", "physics"), {}) if isinstance(values, dict) else {}
        return {**preset, **values} if preset else values

    @model_validator(mode="after")
    def _consistent(self) -> "HDGNNConfig":
        if self.product_degree > (least := self.levels[-1][0]):
            far = " of the edges that are not the nearest" if self.resolutions == 2 else ""
            raise ValueError(f"product_degree = {self.product_degree} exceeds the degree {least}{far}")
        if self.pathway == "none" and self.product == "none":
            raise ValueError("pathway and product are both none; there would be no messages")
        if self.full_degree_branch and self.product != "mean":
            raise ValueError(f"full_degree_branch goes with product = mean, not with {self.product}")
        if self.resolutions == 2 and self.degree < LEAST_DEGREE:
            raise ValueError(f"two resolutions need a degree of at least {LEAST_DEGREE}, not {self.degree}")
        if isinstance(self.attention, tuple) and len(self.attention) != self.branches:
            raise ValueError(f"attention: {self.branches} numbers are needed, one for each branch")
        smooth = self.envelope and self.resolutions == 1 and self.max_neighbors is None
        if self.gradients and not (smooth and self.roll == self.eval_roll == "axis"):
            raise ValueError(
                "gradients need envelope = true, roll = eval_roll = axis, resolutions = 1 and max_neighbors = null: "
                "others jump"
            )
        return self

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Highest degree and hidden width of every resolution, the nearest edges first."""
        far = [(max(LEAST_DEGREE, self.degree - 2), max(1, self.hidden // 4))]
        return [(self.degree, self.hidden), *far[: self.resolutions - 1]]

    @property
    def branches(self) -> int:
        """Terms of a message that have an attention of their own."""
        neural = {"none": 0, "unrestricted": 1}.get(self.pathway, 3)
        return neural + (self.product != "none") + self.full_degree_branch

"""What a decoder is made of: linear layers, experts, and blocks of one shape, with their parameter counts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """One `nn.Linear`, named as in the model: `y = x W^T + b` with `W` of shape [out_features, in_features]."""

    name: str
    in_features: int
    out_features: int
    bias: bool = False

    @property
    def weight_parameters(self) -> int:
        """Numbers in `W`."""
        return self.in_features * self.out_features

    @property
    def bias_parameters(self) -> int:
        """Numbers in `b`."""
        return self.out_features if self.bias else 0

    @property
    def parameters(self) -> int:
        """Numbers in `W` and `b`."""
        return self.weight_parameters + self.bias_parameters

    def lora_parameters(self, r: int) -> int:
        """Numbers in the adapter pair: A is [r, in] and B is [out, r]."""
        return r * (self.in_features + self.out_features)


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture-of-experts MLP. transformers 5 keeps all experts of a block in two fused tensors, not in `nn.Linear`:
    `gate_up_proj` [experts, 2 I, H] and `down_proj` [experts, H, I]."""

    num_experts: int
    experts_per_token: int
    hidden_size: int
    intermediate_size: int

    @property
    def router_parameters(self) -> int:
        """Numbers in the router's [experts, H] weight."""
        return self.num_experts * self.hidden_size

    @property
    def parameters(self) -> int:
        """Gate, up and down projections of every expert, without the router."""
        return 3 * self.num_experts * self.hidden_size * self.intermediate_size

    def lora_parameters(self, r: int) -> int:
        """Adapters as PEFT 0.21 places them for `all-linear`: one pair an expert and tensor, the router's pair, and
        twice the rank where gate and up are fused (utils/transformers_weight_conversion.py)."""
        gate_up = 2 * r * (self.hidden_size + 2 * self.intermediate_size)
        down = r * (self.intermediate_size + self.hidden_size)
        return self.num_experts * (gate_up + down) + r * (self.hidden_size + self.num_experts)


@dataclass(frozen=True, slots=True)
class Block:
    """`count` decoder blocks of one shape. `attention` and `mlp` list the linear layers in the order they run."""

    count: int
    attention: tuple[LinearLayer, ...]
    mlp: tuple[LinearLayer, ...]
    norm_parameters: int
    intermediate_size: int
    experts: Experts | None = None

    @property
    def linears(self) -> tuple[LinearLayer, ...]:
        """All `nn.Linear` of one block."""
        return self.attention + self.mlp

    @property
    def parameters(self) -> int:
        """Parameters of one block."""
        experts = self.experts.parameters + self.experts.router_parameters if self.experts else 0
        return sum(linear.parameters for linear in self.linears) + experts + self.norm_parameters

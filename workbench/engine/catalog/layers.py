"""What a decoder is made of: linear layers and experts, with their parameter counts."""

from dataclasses import dataclass
from typing import Literal

Part = Literal["attention", "mlp", "router", "shared experts", "other"]
ExpertAdapters = Literal["none", "mixtral", "qwen2_moe"]


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """One `nn.Linear` (or GPT-2's Conv1D), named as in the model: `y = x W^T + b`, `W` of shape [out, in]."""

    name: str
    in_features: int
    out_features: int
    bias: bool = False
    part: Part = "attention"
    quantised: bool = True
    """transformers' `replace_with_bnb_linear` takes `nn.Linear` itself and Conv1D; Falcon's subclass stays 16-bit."""

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
    `gate_up_proj` [experts, 2 I, H] and `down_proj` [experts, H, I].

    bitsandbytes quantises layers, and these are none: they keep the base's 16 bits (integrations/bitsandbytes.py of
    transformers 5.23). PEFT's `all-linear` reaches them only in families whose old checkpoints it converts
    (`adapters`), as `target_parameters`.
    """

    num_experts: int
    experts_per_token: int
    hidden_size: int
    intermediate_size: int
    bias: bool = False
    router_bias: bool = False
    """A bias, or the correction of DeepSeek-V3's kind where it is a parameter and no buffer."""
    router: bool = True
    """Whether the router is counted here: it is not where it is a linear layer of the block."""
    adapters: ExpertAdapters = "none"

    @property
    def router_parameters(self) -> int:
        """Numbers in the router's [experts, H] weight, and its bias."""
        return self.num_experts * (self.hidden_size * self.router + self.router_bias)

    @property
    def parameters(self) -> int:
        """Gate, up and down projections of every expert, without the router."""
        biases = 2 * self.intermediate_size + self.hidden_size if self.bias else 0
        return self.num_experts * (3 * self.hidden_size * self.intermediate_size + biases)

    def lora_parameters(self, r: int) -> int:
        """Adapters as PEFT 0.21 places them for `all-linear`: one pair an expert and tensor, the router's pair, and
        twice the rank where gate and up are fused (utils/transformers_weight_conversion.py)."""
        if self.adapters == "none":
            return 0
        gate_up = 2 * r * (self.hidden_size + 2 * self.intermediate_size)
        down = r * (self.intermediate_size + self.hidden_size)
        return self.num_experts * (gate_up + down) + r * (self.hidden_size + self.num_experts)

"""The tensors that train, by shape, in the order in which the model lists them."""

from workbench.engine.catalog.architecture import ALL_LINEAR, Architecture
from workbench.engine.catalog.layers import Experts, LinearLayer
from workbench.engine.memory.case import MemoryCase
from workbench.engine.memory.objectives import objective_of
from workbench.engine.memory.optimizers import Trained


def removed_head(architecture: Architecture, case: MemoryCase) -> int:
    """Numbers of the output head that a reward model does without: a score layer stands in its place."""
    return architecture.parameters_by_module["head"] if objective_of(case.objective).loss == "score" else 0


def score_layer(architecture: Architecture, case: MemoryCase) -> int:
    """Numbers of a reward model's score layer, [1, hidden] without a bias."""
    return architecture.hidden_size if objective_of(case.objective).loss == "score" else 0


def base_parameters(architecture: Architecture, case: MemoryCase) -> int:
    """Numbers in the base model as the objective loads it."""
    return architecture.parameters - removed_head(architecture, case) + score_layer(architecture, case)


def trained_tensors(architecture: Architecture, case: MemoryCase) -> tuple[Trained, ...]:
    """What the optimizer is given, grouped by shape. Raises InputError when no layer is named by `target_modules`."""
    score = score_layer(architecture, case)
    scores = (Trained(score, score + 1),) if score else ()
    return (*(_all(architecture, case) if case.tuning == "full" else _adapters(architecture, case)), *scores)


def _all(architecture: Architecture, case: MemoryCase) -> tuple[Trained, ...]:
    hidden, vocab = architecture.hidden_size, architecture.vocab_size
    matrices = [Trained(architecture.embedding_parameters, hidden + vocab, embedding=True)]
    for block in architecture.blocks:
        matrices += [_matrix(linear, block.count) for linear in block.linears]
        if block.experts:
            matrices += _experts(block.experts, block.count)
    matrices += [_matrix(linear, 1) for linear in architecture.outer]
    if architecture.position_parameters:
        positions = architecture.position_parameters
        matrices.append(Trained(positions, hidden + positions // hidden, embedding=True))
    if not architecture.tie_word_embeddings and not removed_head(architecture, case):
        matrices.append(_matrix(architecture.head, 1))
    # What is no matrix is a norm's weight or a bias, about as long as the hidden state.
    listed = sum(tensor.count * tensor.numbers for tensor in matrices)
    vectors, shorter = divmod(architecture.parameters - removed_head(architecture, case) - listed, hidden)
    return (*matrices, Trained(hidden, count=vectors), Trained(shorter))


def _matrix(linear: LinearLayer, count: int) -> Trained:
    return Trained(linear.weight_parameters, linear.in_features + linear.out_features, count)


def _experts(experts: Experts, count: int) -> list[Trained]:
    """The fused tensors [experts, 2 I, H] and [experts, H, I], and the router's."""
    number, hidden, inner = experts.num_experts, experts.hidden_size, experts.intermediate_size
    down = number * hidden * inner
    return [
        Trained(experts.router_parameters, number + hidden, count),
        Trained(experts.parameters - down, number * (2 * inner + hidden), count),
        Trained(down, number * (hidden + inner), count),
    ]


def _adapters(architecture: Architecture, case: MemoryCase) -> tuple[Trained, ...]:
    r = case.lora_r
    pairs: list[Trained] = []
    for linear, count in architecture.targets(case.target_modules):
        pairs.append(Trained(r * linear.in_features, r + linear.in_features, count))
        pairs.append(Trained(r * linear.out_features, r + linear.out_features, count))
    if case.target_modules == ALL_LINEAR:
        for block in architecture.blocks:
            if block.experts and block.experts.lora_parameters(r):
                # PEFT keeps one fused pair for all experts of a block: matrices of [experts * r, in] and [out, ...].
                numbers = block.experts.lora_parameters(r)
                side = r * block.experts.num_experts + block.experts.hidden_size
                pairs.append(Trained(numbers, side, block.count))
    return tuple(pairs)

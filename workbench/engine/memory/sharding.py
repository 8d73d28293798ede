"""What several processes cost each GPU on top of its share: DDP's buckets, and the units that FSDP2 gathers."""

from dataclasses import dataclass

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory.case import MemoryCase, Precision


@dataclass(frozen=True, slots=True)
class Sharding:
    """Bytes on each GPU, by moment. `shards`: by how many weights, gradients and optimizer states are divided."""

    shards: int = 1
    always: float = 0
    at_loss: float = 0
    in_block: float = 0
    at_embedding: float = 0


def sharding_of(architecture: Architecture, case: MemoryCase, precision: Precision, trained: int) -> Sharding:
    """DDP copies gradients into buckets (gradient_as_bucket_view is off by default). FSDP2 as accelerate sets it up
    (fsdp2_prepare_model): one unit a block, one for the embedding, one of final norm and head that stays gathered from
    its forward to its backward; the next unit is fetched ahead. A unit that trains also holds its whole gradient and
    the copy that goes into the reduce-scatter, while those of the unit before are still being reduced."""
    if case.num_processes == 1 or case.sharding == "none":
        return Sharding()
    if case.sharding == "ddp":
        return Sharding(always=trained * precision.trained)
    width, full = precision.compute, case.tuning == "full"
    largest = max(architecture.blocks, key=lambda block: block.parameters)
    weights = largest.parameters
    if precision.quantization != "none":  # fully_shard ignores Params4bit
        weights -= sum(linear.weight_parameters for linear in largest.linears)
    block, ends = width * weights, width * architecture.embedding_parameters
    tied = ends if architecture.tie_word_embeddings else 0  # one unit with the head: gathered all the while
    return Sharding(
        shards=case.num_processes,
        at_loss=ends * (3 if full else 1) + block,
        in_block=tied + block * (4 if full else 2),
        at_embedding=ends * 3 if full else 0,
    )

"""What several processes cost each GPU on top of its share: DDP's buckets, and the units that FSDP gathers."""

from dataclasses import dataclass

from workbench.engine.catalog.architecture import Architecture
from workbench.engine.memory.case import MemoryCase, Precision
from workbench.engine.memory.terms import NF4_BYTES


@dataclass(frozen=True, slots=True)
class Sharding:
    """Bytes on each GPU, by moment. `shards`: by how many weights, gradients and optimizer states are divided."""

    shards: int = 1
    always: float = 0
    at_loss: float = 0
    in_block: float = 0
    at_embedding: float = 0


def sharding_of(architecture: Architecture, case: MemoryCase, precision: Precision, trained: int) -> Sharding:
    """DDP copies gradients into buckets (gradient_as_bucket_view is off by default). FSDP fetches the next unit ahead;
    a unit that trains also holds its whole gradient and the copy that goes into the reduce-scatter, while those of the
    unit before are still being reduced."""
    if case.num_processes == 1 or case.sharding == "none":
        return Sharding()
    if case.sharding == "ddp":
        return Sharding(always=trained * precision.trained)
    width, full = precision.compute, case.tuning == "full"
    block = max(_gathered(architecture, case, precision, index) for index in range(len(architecture.blocks)))
    ends, tied = width * architecture.embedding_parameters, architecture.tie_word_embeddings
    working = block * (4 if full else 2)
    if case.on_transformers_4:
        # FSDP1: embedding and head belong to the root unit, which stays gathered all the while; the head's gradient
        # waits for the embedding's, and both are put together.
        root = ends * (1 if tied else 2)
        waiting = ends if full else 0
        return Sharding(case.num_processes, 0, root + waiting + block, root + waiting + working,
                        3 * root if full else root)
    # FSDP2 as accelerate sets it up (fsdp2_prepare_model): a unit of its own for the embedding, and one of final norm
    # and head that stays gathered from its forward to its backward; tied, they are one.
    return Sharding(case.num_processes, 0, ends * (3 if full else 1) + block, (ends if tied else 0) + working,
                    ends * 3 if full else 0)


def _gathered(architecture: Architecture, case: MemoryCase, precision: Precision, index: int) -> float:
    """Bytes of one block as it is gathered. fully_shard ignores Params4bit, so that nothing of them is gathered; FSDP1
    gathers them in 4 bits."""
    block, width = architecture.blocks[index], precision.compute
    if precision.quantization == "none":
        return width * block.parameters
    linears = sum(linear.weight_parameters for linear in block.linears if linear.quantised)
    packed = linears * NF4_BYTES if case.on_transformers_4 else 0
    return width * (block.parameters - linears) + packed

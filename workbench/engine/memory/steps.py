"""What each operation of a block keeps, needs and gives back: bytes per token, as autograd runs it.

Counted in the code of torch 2.13, transformers 5.23, peft 0.21 and bitsandbytes 0.50, and checked against traced
storages. W is a value's width in numbers; sizes of numbers are in bytes. What autocast does is what it does on CUDA:
matrix products in 16 bits; LayerNorm, pow and softmax in fp32.
"""

from dataclasses import dataclass, field

from workbench.engine.catalog.layers import LinearLayer
from workbench.engine.catalog.operations import Block, Operation
from workbench.engine.memory.kernels import replaced
from workbench.engine.memory.setting import Setting


@dataclass(slots=True)
class Step:
    """One operation's bytes per token.

    `number` is the size of the output's numbers. `keeps` are values whose storage stays for the backward, `copies` the
    bytes of further tensors that do. `forward` is needed beside the output while it runs; `backward` beside its
    output's gradient while it is walked back, the gradients of its inputs included; `uncopied` so too, when its copies
    are gone, and `late` when its output's gradient is gone as well. `gradients` gives each input's gradient in bytes,
    or None where it is the output's own.
    """

    number: float
    keeps: tuple[int, ...] = ()
    copies: float = 0
    forward: float = 0
    backward: float = 0
    gradients: tuple[tuple[int, float | None], ...] = field(default=())
    uncopied: float = 0
    late: float = 0


class Steps:
    """The steps of one block under one setting. `numbers` is the size of each value's numbers, filled on the way."""

    def __init__(self, setting: Setting, block: Block) -> None:
        self.setting, self.block = setting, block
        self.numbers: dict[int, float] = {0: setting.precision.stream}

    def width(self, value: int) -> int:
        """Numbers per token."""
        return self.block.values[value].width

    def of(self, operation: Operation) -> Step:
        """The step of one operation; its outputs' number size is noted."""
        step: Step = getattr(self, "_" + operation.kind)(operation, *operation.inputs)
        replaced(step, operation, self.setting, self.numbers)
        for output in operation.outputs:
            self.numbers[output] = step.number
        return step

    def _plain(self, x: int, width: int | None = None) -> Step:
        """An operation that keeps nothing: one new tensor each way."""
        number = self.numbers[x]
        size = number * (self.width(x) if width is None else width)
        return Step(number, backward=size, gradients=((x, size),))

    def _linear(self, op: Operation, x: int) -> Step:
        layer, p, setting = op.layer, self.setting.precision, self.setting
        assert layer is not None
        given, w_in, w_out = self.numbers[x], layer.in_features, layer.out_features
        work = p.compute if setting.quantises(layer) or p.autocast else given
        number = given if setting.quantises(layer) else work
        cast, gradient = 0.0 if work == given else work * w_in, given * w_in
        step = Step(number, forward=cast, backward=gradient + cast, gradients=((x, gradient),))
        if number != work:
            # bitsandbytes' layers cast what comes and what they answer: so are the gradients, one after the other.
            step.backward = work * w_out
            step.late = work * w_in + max(work * w_out, gradient)
        if setting.full:
            step.keeps, step.copies = (() if cast else (x,)), cast
        elif layer.name in setting.adapted:
            self._adapter(step, layer, x, given)
        return step

    def _adapter(self, step: Step, layer: LinearLayer, x: int, given: float) -> None:
        """LoRA's pair beside a layer (peft/tuners/lora/layer.py): `result + B(A(dropout(cast(x)))) * scaling`."""
        p, case, w_in, w_out = self.setting.precision, self.setting.case, layer.in_features, layer.out_features
        product = p.compute if p.autocast else p.trained
        copies = self.setting.copies_input(layer)
        if not copies:
            step.keeps, step.copies = ((x,), 0.0) if product == given else ((), product * w_in)
        else:
            mask = w_in if case.lora_dropout else 0
            step.copies = mask + product * w_in
        casts = copies and not self.setting.quantises(layer) and p.trained != given
        cast = p.trained * w_in if casts else 0.0
        step.copies += product * case.lora_r
        # Forward: the cast input lives until the function ends; beside the sum stand the result and the scaled product.
        step.forward = cast + (step.number + product) * w_out
        # Backward, before that of the layer itself: the gradient in the product's type, and scaled; then A's, in the
        # product's type, in the adapter's and in the input's own. By then A's input is gone.
        inward, gradient = product * w_in, given * w_in
        scaled = product * ((2 if step.number != product else 1) * w_out + case.lora_r)
        turned = gradient if given != product else 0.0
        step.uncopied = max(inward + (cast or turned), cast + gradient, step.backward + gradient)
        step.late = step.late + gradient if step.late else 0.0
        step.backward = max(scaled, inward)

    def _norm(self, op: Operation, x: int) -> Step:
        given, w, p = self.numbers[x], self.width(x), self.setting.precision
        fp32, gradient = 4.0 * w, given * w
        own = (x,) if given == 4 else ()  # an fp32 input needs no copy
        copy = 0.0 if own else fp32
        gradients = ((x, gradient),)
        match op.variant:
            case "layer" | "layer_no_bias" | "layer_plain":
                if given == 4 or not p.autocast:
                    return Step(given, (x,), 8, 0, gradient, gradients)
                return Step(4, (), fp32 + 8, 0, fp32 + gradient, gradients)
            case "layer_1p":  # its own cast to autocast's type (modeling_nemotron.py, _cast_if_autocast_enabled)
                number = p.compute if p.autocast else given
                cast = number * w if number != given else 0.0
                return Step(number, () if cast else (x,), cast + 8, 0, gradient + cast, gradients)
            case "layer_bare":
                return Step(given, own, copy + 8, copy, fp32 + max(copy, gradient), gradients)
            case "layer_fp32":  # its centred input twice: for the square and for the product
                return Step(4, (), 2 * fp32, fp32, 5 * fp32, gradients)
        number = 4 if op.variant in ("rms_fp32", "rms_fp32_cast") else given
        # Backward of x * rsqrt(mean(x^2)): beside the gradient of x, that of the mean, x^1, 2x and their product stand
        # (pow_backward), all fp32; the output's own gradient is gone by then.
        return Step(number, own, copy + 4, fp32, 5 * fp32 - number * w, gradients)

    def _weight(self, op: Operation, x: int) -> Step:
        given, w = self.numbers[x], self.width(x)
        number = max(given, self.setting.precision.stream)
        gradient, trained = given * w, self.setting.full
        return Step(number, (x,) if trained else (), 0, 0, gradient + (number * w if trained else 0), ((x, gradient),))

    def _cast(self, op: Operation, x: int, like: int) -> Step:
        size = self.numbers[x] * self.width(x)
        return Step(self.numbers[like], backward=size, gradients=((x, size),))

    def _rotary(self, op: Operation, x: int) -> Step:
        given, w = self.numbers[x], self.width(x)
        number = max(given, self.setting.precision.stream)  # cosine and sine come in the embedding's type
        work = 4 if op.variant in ("fp32", "complex") else number
        number = given if work == 4 else number
        return Step(number, (), 0, 2 * work * w, 3 * work * w, ((x, given * w),))

    def _activation(self, op: Operation, x: int) -> Step:
        given, w = self.numbers[x], self.width(x)
        size = given * w
        # pow runs in fp32 under autocast, and what follows with it.
        powers = 4.0 if self.setting.precision.autocast else given
        match op.variant:
            case "relu":
                return Step(given, op.outputs, 0, 0, size, ((x, size),))
            case "relu2":
                cast = powers * w if powers != given else 0.0
                return Step(powers, (), size if not cast else size + cast, 0, 3 * powers * w, ((x, size),))
            case "gelu_new" | "gelu_fast":
                # x/2, tanh, 1 + tanh, and the cube's input; back: the gradients of the product's two sides.
                cast = powers * w if powers != given else 0.0
                copies = size + cast + 2 * powers * w
                return Step(powers, () if cast else (x,), copies, powers * w, 2 * powers * w, ((x, size),))
            case "xielu":  # softplus and expm1 run in fp32 under autocast; a difference is kept where its factor trains
                copies = (1 + powers * (3 if self.setting.full else 2)) * w
                # Forward: beside the result, both terms of its other side and their sum. Back, the mask gone: the other
                # side's gradient, expm1's, its result plus one and their product.
                return Step(powers, (x,), copies, 3 * powers * w, (4 * powers - 1) * w, ((x, size),))
            case "sigmoid":
                return Step(given, op.outputs, 0, 0, size, ((x, size),))
            case "quick_gelu":
                return Step(given, (x,), size, size, 3 * size, ((x, size),))
        return Step(given, (x,), 0, 0, size, ((x, size),))

    def _multiply(self, op: Operation, a: int, b: int) -> Step:
        number = max(self.numbers[a], self.numbers[b])
        of_a, of_b = self.numbers[a] * self.width(a), self.numbers[b] * self.width(b)
        return Step(number, (a, b), 0, 0, of_a + number * self.width(op.outputs[0]), ((a, of_a), (b, of_b)))

    def _add(self, op: Operation, a: int, b: int) -> Step:
        number = max(self.numbers[a], self.numbers[b])
        gradients = tuple((v, None if self.numbers[v] == number else self.numbers[v] * self.width(v)) for v in (a, b))
        return Step(number, backward=sum(size or 0 for _, size in gradients), gradients=gradients)

    def _scale(self, op: Operation, x: int) -> Step:
        return self._plain(x)

    def _release(self, op: Operation, x: int) -> Step:
        return Step(self.numbers[x])

    def _dropout(self, op: Operation, x: int) -> Step:
        step = self._plain(x)
        step.copies = self.width(x)  # one byte a number says what was kept
        return step

    def _split(self, op: Operation, x: int) -> Step:
        whole = self.numbers[x] * self.width(x)
        # One cat of all gradients; slices are padded to the whole one by one.
        return Step(self.numbers[x], backward=whole * (2 if op.variant == "slices" else 1), gradients=((x, whole),))

    def _concat(self, op: Operation, a: int, b: int) -> Step:
        return Step(max(self.numbers[a], self.numbers[b]), gradients=((a, None), (b, None)))

    def _copy(self, op: Operation, x: int) -> Step:
        return Step(self.numbers[x], gradients=((x, None),))

    def _attention(self, op: Operation, query: int, key: int, value: int) -> Step:
        p, case = self.setting.precision, self.setting.case
        values = (query, key, value)
        work = p.compute if p.autocast else self.numbers[query]
        casts = sum(work * self.width(v) for v in values if self.numbers[v] != work)
        gradients = tuple((v, self.numbers[v] * self.width(v)) for v in values)
        given = sum(size for _, size in gradients)
        kept = tuple(v for v in values if self.numbers[v] == work)
        # Keys and values repeated for every query head, where the kernel wants them so: copies, and no longer views.
        # One head shared by all stays a view to fused kernels (integrations/sdpa_attention.py, repeat_kv: a reshape
        # that copies nothing), unless autocast casts it there; the product of written-out scores copies it
        # (torch.matmul folds batch and heads).
        times, scored = self.width(query) / self.width(key), materialises_scores(op, case.attn_implementation)
        copied = times > 1 and (scored or times < op.heads or self.numbers[key] != work)
        repeated = work * times * (self.width(key) + self.width(value)) if copied else 0
        if repeated and (self.setting.masked or scored):
            casts -= sum(work * self.width(v) for v in (key, value) if self.numbers[v] != work)
            kept = tuple(v for v in kept if v == query)
        if scored:
            scores = op.heads * self.setting.keys
            kept_scores, back = self._scores(op, work)
            copies = casts + repeated + kept_scores * scores
            forward = 4 + (work if op.variant == "written out, held" else 0)
            return Step(work, kept, copies, forward * scores, back * scores + given, gradients)
        copies = casts + 4.0 * op.heads  # fused kernels keep one fp32 log-sum-exp a head
        if self.setting.masked:
            # With a mask, SDPA takes the memory-efficient kernel: the mask in the query's type, heads repeated.
            copies += work * self.setting.keys + repeated
        return Step(work, (*kept, *self._laid_out(op, self.setting.masked)), copies, 0, given + casts, gradients)

    def _laid_out(self, op: Operation, masked: bool) -> tuple[int, ...]:
        """Attention's output as it is kept. The memory-efficient kernel lays it out token by token, so that making it
        contiguous copies nothing (native/transformers/cuda/attention.cu, _efficient_attention_forward)."""
        copied = [o.outputs for o in self.block.operations if o.kind == "copy" and o.inputs == op.outputs]
        return copied[0] if masked and copied else op.outputs

    def _scores(self, op: Operation, work: float) -> tuple[float, float]:
        """Bytes per score that are kept, and that the backward needs on top."""
        if op.variant == "sinks":  # GPT-OSS's softmax stays in 16 bits
            return work, 3 * work
        # Softmax in fp32, its cast to 16 bits for the product with the values; dropout's mask; the capped scores' tanh.
        kept = 4 + (work if work != 4 else 0) + (1 if op.share else 0)
        kept += work if op.variant in ("softcap", "written out, clipped") else 0
        # Softmax's two fp32 gradients, when the cast is gone.
        return kept, 8 if work == 4 else 8 - work

    def _router(self, op: Operation, x: int) -> Step:
        given, w, p = self.numbers[x], self.width(x), self.setting.precision
        fp32, uncast = op.variant.startswith("fp32"), op.variant == "fp32, uncast" or not p.autocast
        work = p.compute if not uncast else 4.0 if fp32 else given
        trained = self.setting.full or self.setting.adapts_experts
        copies = work * w if trained and (work != given or fp32) else 0.0
        casts = 4.0 * w if fp32 else 0.0
        keeps = (x,) if trained and not copies else ()
        return Step(work, keeps, copies, casts if copies != casts else 0, casts + given * w, ((x, given * w),))

    def _choose(self, op: Operation, logits: int) -> Step:
        # The fp32 softmax over all experts, and the chosen ones' numbers (8 bytes each).
        size = 4.0 * op.heads
        number = {"fp32": 4.0, "cast": self.setting.precision.stream}.get(op.variant, self.numbers[logits])
        return Step(number, (), size + 8 * self.width(op.outputs[0]), size, 3 * size,
                    ((logits, self.numbers[logits] * op.heads),))  # fmt: skip

    def _gather(self, op: Operation, x: int) -> Step:
        # Sorted expert numbers, the order and its inverse: 8 bytes a copy each.
        size = self.numbers[x] * self.width(x)
        copies = self.width(op.outputs[0]) // self.width(x)
        return Step(self.numbers[x], (), 24 * copies, 0, size, ((x, size),))

    def _bias(self, op: Operation, x: int) -> Step:
        return Step(self.setting.precision.weight)

    def _experts(self, op: Operation, x: int) -> Step:
        given, w, p = self.numbers[x], self.width(x), self.setting.precision
        cast = p.weight * w if p.weight != given else 0.0
        trained = self.setting.full or self.setting.adapts_experts
        return Step(p.weight, (x,) if trained and not cast else (), cast if trained else 0.0, cast, given * w + cast,
                    ((x, given * w),))  # fmt: skip

    def _weigh(self, op: Operation, x: int, weights: int) -> Step:
        number, w = max(self.numbers[x], self.numbers[weights]), self.width(x)
        size = self.numbers[x] * w
        # The weights' own gradient is a sum over each copy's products.
        small = self.numbers[weights] * self.width(weights)
        return Step(number, (x,), 0, 0, size + number * w, ((x, size), (weights, small)))

    def _scatter(self, op: Operation, x: int) -> Step:
        number, w, out = self.numbers[x], self.width(x), self.width(op.outputs[0])
        back = self.setting.precision.stream
        return Step(back, (), 0, number * (w + out), number * (w + out), ((x, number * w),))


def materialises_scores(op: Operation, implementation: str) -> bool:
    """Whether attention keeps a number per head and key, for want of a fused kernel."""
    if op.variant.startswith("written out") or implementation == "eager":
        return True
    return op.variant in ("no sdpa", "softcap", "sinks") and implementation == "sdpa"

"""What the libraries, the driver and the kernel say when a run dies, and what each of it means for the user.

Messages are those of torch 2.13, transformers 5.23, trl 1.16, peft 0.21, bitsandbytes 0.50, safetensors 0.8,
huggingface_hub 2.4, pyarrow and glibc; names are matched as text, since this module must import none of them.
"""

import errno
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Cause = Literal["oom", "nan", "disk", "killed", "hub", "data", "error", "hang"]


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception of a chain, as plain text: the class's name, what it says, and the number of a system error.

    `ours`: the message is a sentence for the user, and `hint` says how to mend it.
    """

    kind: str
    message: str
    ours: bool = False
    hint: str | None = None
    errno: int | None = None

    @property
    def line(self) -> str:
        """As the last line of a traceback has it."""
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class Symptom:
    """One way to die: `id` names it for programs, `sentence` says it, `fix` what to do about it.

    It is recognised by the names of exceptions, by words in a message or a line of the log, or by the system's errors.
    """

    id: str
    cause: Cause
    sentence: str
    fix: str
    words: re.Pattern[str] | None = None
    kinds: frozenset[str] = frozenset()
    errnos: frozenset[int] = frozenset()

    def fits(self, raised: Raised) -> bool:
        """Whether an exception shows it."""
        return raised.kind in self.kinds or raised.errno in self.errnos or self.is_said(raised.message)

    def is_said(self, text: str) -> bool:
        """Whether the words are in a text."""
        return self.words is not None and self.words.search(text) is not None


def _symptom(id_: str, cause: Cause, sentence: str, fix: str, words: str = "", kinds: str = "",
             *errnos: int) -> Symptom:
    """`words` is a regular expression, letters of either case; `kinds` are names, separated by blanks."""
    return Symptom(id_, cause, sentence, fix, re.compile(words, re.IGNORECASE) if words else None,
                   frozenset(kinds.split()), frozenset(errnos))


# The order decides where several fit: what says most comes first.
SYMPTOMS: tuple[Symptom, ...] = (
    _symptom("nan", "nan", "The loss or a gradient became NaN.",
             "Lower training.learning_rate, or raise training.warmup_steps.", "", "NonFiniteLossError"),
    # --- memory
    _symptom("shared-memory", "oom", "The shared memory (/dev/shm) is too small for the data loader.",
             "Give the container more, such as docker run --shm-size=8g.",
             r"insufficient shared memory|unable to (mmap|open|write).{0,60}shared memory|/dev/shm.{0,40}no space"),
    _symptom("gpu-memory", "oom", "The GPU ran out of memory.", "",
             r"(cuda|hip) (error: )?out of memory|CU(BLAS|DNN|SPARSE)_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"
             r"|Error out of memory at line|XPU out of memory", "OutOfMemoryError"),
    _symptom("gpu-memory", "oom", "The GPU has no room for the model.", "",
             r"Some modules are dispatched on the CPU or the disk"),
    _symptom("host-memory", "oom", "The machine's memory (RAM) ran out.", "",
             r"can't allocate memory|cannot allocate memory|std::bad_alloc|^Unable to allocate .{1,40} for an array"
             r"|memory allocation of \d+ bytes failed|malloc of size \d+ failed|killed by signal: Killed"
             r"|\bOOM[- ]?killer|DefaultCPUAllocator: not enough memory",
             "MemoryError ArrayMemoryError _ArrayMemoryError ArrowMemoryError", errno.ENOMEM),
    # --- disk
    _symptom("disk-full", "disk", "The disk is full.", "Free some space, then go on.",
             r"no space left on device|os error 28\b|not enough free disk space", "", errno.ENOSPC),
    _symptom("disk-quota", "disk", "Your quota on this disk is used up.",
             "Free some of it, or move WORKBENCH_HOME to another disk.",
             r"disk quota exceeded|os error 122\b", "", errno.EDQUOT),
    _symptom("disk-writing", "disk", "A file could not be written to its end, which is what a full disk looks like.",
             "Free some space, then go on.",
             r"PytorchStreamWriter failed writing|file write failed|unexpected pos \d+ vs \d+"),
    _symptom("disk-read-only", "disk", "The file system is read-only.",
             "The kernel makes it so after disk errors: see dmesg; or point WORKBENCH_HOME to another disk.",
             r"read-only file system|os error 30\b", "", errno.EROFS),
    _symptom("disk-broken", "disk", "The disk failed to read or write.", "See dmesg: disk or cable are ill.",
             r"\binput/output error|os error 5\b|stale file handle", "", errno.EIO, errno.ESTALE),
    _symptom("file-size", "disk", "A file would have become larger than is allowed here.",
             "Raise the limit: ulimit -f unlimited.", r"file too large|os error 27\b", "", errno.EFBIG),
    # --- several GPUs
    _symptom("nccl", "error", "The GPUs lost each other (NCCL).",
             "Another process of the run may have died first: see the log above it. NCCL_DEBUG=INFO says more.",
             r"NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError|Watchdog caught collective operation"),
    # --- the GPU and its driver
    _symptom("cuda-assert", "error", "The GPU met an index outside its table: a token or a label that the model does "
             "not have.", "Check that the tokenizer belongs to the model; CUDA_LAUNCH_BLOCKING=1 shows the place.",
             r"device-side assert triggered|indexSelectSmallIndex|Assertion `t >= 0 && t < n_classes"),
    _symptom("cuda-ecc", "error", "The GPU's memory is damaged (ECC error).",
             "Reset or replace it: nvidia-smi -q -d ECC; go on elsewhere meanwhile.", r"uncorrectable (NVLink |ECC)"),
    _symptom("cuda-lost", "error", "The GPU was lost: it fell off the bus or its driver was restarted.",
             "See dmesg for NVRM: Xid; it needs a reset or a reboot.",
             r"GPU is lost|fallen off the bus|Unable to determine the device handle|ERROR_GPU_IS_LOST"),
    _symptom("cuda-kernel", "error", "This build of a library has no code for this GPU.",
             "Install a build that knows it: see the versions in `workbench doctor`.",
             r"no kernel image is available|is not compatible with the current PyTorch installation"),
    _symptom("cuda-driver", "error", "The GPU's driver is older than torch needs.",
             "Update the NVIDIA driver, or install torch for an older CUDA.",
             r"driver version is insufficient|NVIDIA driver on your system is too old|driver/library version mismatch"
             r"|forward compatibility was attempted"),
    _symptom("cuda-none", "error", "No GPU can be used.",
             "See `workbench doctor` and nvidia-smi; hardware.use_cpu: true trains without one.",
             r"Found no NVIDIA driver|No CUDA GPUs are available|no CUDA-capable device|not compiled with CUDA enabled"
             r"|invalid device ordinal|devices are busy or unavailable|system not yet initialized"),
    _symptom("cuda-access", "error", "A GPU kernel read or wrote memory that is not its own.",
             "If it comes again at the same step, report it with the recipe; attn_implementation: eager and another "
             "optim leave out the usual suspects.",
             r"illegal memory access|misaligned address|unspecified launch failure|CUDA error: an illegal instruction"),
    _symptom("cuda-unknown", "error", "The GPU's driver failed without saying why.",
             "It often needs a restart: nvidia-smi must work first; see dmesg for NVRM: Xid.",
             r"CUDA (unknown )?error: unknown error|CUDA unknown error|CUDA error: unknown|launch timed out and was "
             r"terminated"),
    _symptom("cuda", "error", "The GPU failed.", "See its log, and dmesg for NVRM: Xid.",
             r"CUDA error:|CUDNN_STATUS_|CUBLAS_STATUS_|cuDNN error", "AcceleratorError"),
    # --- libraries
    _symptom("flash-attention", "error", "The attention kernel that the recipe names is not installed.",
             "Set training.attn_implementation to sdpa, or install flash-attn.",
             r"FlashAttention\d? has been toggled on|flash_attn seems to be not installed"),
    _symptom("bitsandbytes", "error", "bitsandbytes has no kernels that work here.",
             "See what it found: python -m bitsandbytes; or use tuning: lora and a torch optimizer.",
             r"requires bitsandbytes|bitsandbytes.{0,80}binary|SETUP ERROR|CUDA Setup failed|libbitsandbytes"
             r"|CPU-only version of bitsandbytes|CUDA VERSION MISMATCH|named symbol not found"),
    _symptom("library", "error", "A library is missing or does not fit the others.",
             "See `workbench doctor`, then: pip install -e . in the workbench's folder.",
             r"cannot open shared object file|undefined symbol|version `\S+' not found|DLL load failed",
             "ImportError ModuleNotFoundError"),
    # --- the Hub
    _symptom("hub-gated", "hub", "The model or dataset is gated, and this machine may not read it.",
             "Ask for access on its page, then: hf auth login.",
             r"gated repo|awaiting a review from the repo authors", "GatedRepoError"),
    _symptom("hub-offline", "hub", "It is not in the local cache, and the Hub may not be asked.",
             "Unset HF_HUB_OFFLINE, or download it where there is a network: hf download NAME.",
             r"offline mode is enabled|outgoing traffic has been disabled", "OfflineModeIsEnabled"),
    _symptom("hub-missing", "hub", "There is no such model, dataset or file on the Hub, or it is private.",
             "Check the id; for a private one: hf auth login.",
             r"is not a valid model identifier|Repository Not Found|Revision Not Found|Entry Not Found",
             "RepositoryNotFoundError RevisionNotFoundError RemoteEntryNotFoundError EntryNotFoundError "
             "DatasetNotFoundError"),
    _symptom("hub-busy", "hub", "The Hub asks to wait: too many requests.",
             "Go on in some minutes; with a token the limit is higher: hf auth login.",
             r"429 (Client Error|Too Many Requests)|rate limit"),
    _symptom("hub-unreachable", "hub", "The Hub cannot be reached, and the files are not in the local cache.",
             "Check the network and HF_ENDPOINT; or download them elsewhere: hf download NAME.",
             r"couldn't connect to '?http|couldn't find them in the\s+cached files|huggingface\.co|hf\.co\b"
             r"|name resolution|Name or service not known|Failed to resolve|Max retries exceeded",
             "LocalEntryNotFoundError HfHubHTTPError HubError ConnectError ConnectTimeout ReadTimeout "
             "RemoteProtocolError ProxyError"),
    # --- data, model, template
    _symptom("data", "data", "", "Mend the row, then start the run again.", "", "DataError DatasetGenerationError"),
    _symptom("template", "error", "The chat template cannot be used.",
             "Set data.chat_template to one of the built-in ones or to a file of your own.", r"chat template",
             "TemplateSyntaxError TemplateError UndefinedError SecurityError TemplateRuntimeError "
             "TemplateAssertionError"),
    _symptom("model-damaged", "error", "The model's weights are damaged or incomplete.",
             "Download or save the model again.",
             r"Error while deserializing header|incomplete metadata, file not fully covered|MetadataIncompleteBuffer"
             r"|InvalidHeaderDeserialization|unexpected EOF, expected \d+ more bytes", "SafetensorError"),
    _symptom("model-mismatch", "error", "The weights have other shapes than the model.",
             "An adapter goes with the model it was trained on: check both.",
             r"size mismatch for |ignore_mismatched_sizes"),
    _symptom("no-gradient", "error", "Nothing that is trained is part of the loss.",
             "Check lora.target_modules against the model: `workbench explain lora --model MODEL`.",
             r"does not require grad and does not have a grad_fn"),
    # --- the machine's limits
    _symptom("open-files", "error", "Too many files are open.", "Raise the limit: ulimit -n 65536.",
             r"too many open files", "", errno.EMFILE, errno.ENFILE),
    _symptom("processes", "error", "No more processes or threads can be started.", "Raise the limit: ulimit -u.",
             r"can't start new thread|Resource temporarily unavailable", "", errno.EAGAIN),
    _symptom("permission", "error", "A file or folder may not be used.", "Check who owns it, and its permissions.",
             r"permission denied", "PermissionError", errno.EACCES, errno.EPERM),
)


def symptom_of(chain: Sequence[Raised]) -> tuple[Symptom, Raised] | None:
    """The first symptom that any exception of a chain shows, and the one that shows it.

    A data error of ours stands above what it came from: a row that is no JSON is no broken library.
    """
    if chain and chain[0].kind == "DataError":
        return next((s, chain[0]) for s in SYMPTOMS if s.id == "data")
    return next(((symptom, raised) for symptom in SYMPTOMS for raised in chain if symptom.fits(raised)), None)


def symptom_in(lines: Iterable[str]) -> tuple[Symptom, str] | None:
    """The first symptom whose words are in a log, and the last line that has them."""
    newest = list(lines)[::-1]
    for symptom in SYMPTOMS:
        for line in newest:
            if symptom.is_said(line):
                return symptom, line
    return None

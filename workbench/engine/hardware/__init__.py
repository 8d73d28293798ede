"""The machine: GPUs through NVML, the host through psutil. "No GPU" is a value, not an error."""

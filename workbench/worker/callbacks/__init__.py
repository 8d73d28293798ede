"""What happens between training steps: metrics, samples, control."""
